"""What makes training fast on few cores."""
