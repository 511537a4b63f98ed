"""`python -m fm_mlflow` is the command `fm-mlflow`."""

from fm_mlflow.cli import main

main()
