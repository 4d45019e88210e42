"""What we do about it, and who is told."""
