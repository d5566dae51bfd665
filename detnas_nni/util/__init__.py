"""Helpers that know nothing of nets and searches."""
