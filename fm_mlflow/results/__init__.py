"""What each command returns."""
