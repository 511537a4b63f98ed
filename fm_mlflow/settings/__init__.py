"""Settings: every option with its default, bounds and description, and how they are checked."""
