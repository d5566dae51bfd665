"""How long a backbone takes on the device at hand: measured once block by block, then a sum from a table."""
