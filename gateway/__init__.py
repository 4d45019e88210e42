"""What the serving tier installs: the two messages, and the sketch of a prompt."""
