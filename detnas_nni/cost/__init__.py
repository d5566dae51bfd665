"""What an architecture costs, in MACs, parameters and milliseconds, and which ones are within the limits."""
