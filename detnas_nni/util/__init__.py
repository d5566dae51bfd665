"""Helpers that know nothing about nets and searches."""
