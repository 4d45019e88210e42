"""Public extraction tools, run for real against a server that answers at once and notes what they ask."""
