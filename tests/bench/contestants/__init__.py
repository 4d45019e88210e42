"""Contestants: each reads the same topic from its start to its end, in a process of its own."""
