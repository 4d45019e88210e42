"""Bench: how fast, how small and how soon, next to a bare consumer and to other libraries."""
