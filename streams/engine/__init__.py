"""Faust, taught to work in batches."""
