"""Streams that never were: honest accounts and attacks, seeded and labelled."""
