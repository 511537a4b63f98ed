"""The plain script under MLflow's autologging: `autolog.py mlp|cnn DATA_DIR SEED`.

System metrics are on, and TensorBoard is installed, without which autologging fails here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mlflow

from benchmarks.scripts.plain_keras import main

if __name__ == "__main__":
    mlflow.set_system_metrics_sampling_interval(1)  # type: ignore[no-untyped-call]
    mlflow.enable_system_metrics_logging()  # type: ignore[no-untyped-call]
    mlflow.tensorflow.autolog()
    with mlflow.start_run():
        main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
