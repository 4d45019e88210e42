"""What the serving tier installs: reports out, verdicts in, and what they mean for a request."""
