"""The comparison in words."""
