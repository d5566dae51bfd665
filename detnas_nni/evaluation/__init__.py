"""What a net is measured with: a candidate of a supernet, or a net that was trained on its own."""
