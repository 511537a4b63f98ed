"""What a model must prove before it is promoted."""
