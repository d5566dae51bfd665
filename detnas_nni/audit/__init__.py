"""`detnas audit`: how far a search can be trusted, by training some of its candidates on their own."""
