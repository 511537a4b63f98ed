"""The only folder that imports MLflow."""
