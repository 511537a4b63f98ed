"""What a user would write without fm_mlflow; each file runs as a process of its own."""
