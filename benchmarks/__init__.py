"""What fm_mlflow costs its user, beside what a user would otherwise run."""
