"""What arrives, and how it flows."""
