"""One file a command: what the user typed, read from top to bottom."""
