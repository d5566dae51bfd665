"""How a net is measured: a candidate of a supernet, or a net that was trained on its own."""
