"""Training runs as `fm-mlflow train` logs them, without training: real stores, chosen figures."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from fm_mlflow import __version__, keys

TEST_IMAGES = 1000
CLASSES = 10

MACHINE: dict[str, str] = {
    keys.MACHINE_CPU: "Test CPU",
    keys.MACHINE_CORES: "2, 2 usable",
    keys.MACHINE_THREADS: "automatic within, automatic between",
    keys.MACHINE_VERSIONS: "Python 3.11.7, TensorFlow 2.21.0",
    keys.MACHINE_LOAD: "0.5",
}

COSTS: dict[str, dict[str, float]] = {
    "mlp": {
        keys.PARAMETERS_TRAINABLE: 235_146.0,
        keys.FLOPS_INFERENCE: 469_948.0,
        keys.FLOPS_TRAINING: 1_052_889.5,
        keys.FLOPS_TRAINING_TOTAL: 5 * 60_000 * 1_052_889.5,
        keys.SIZE_INFERENCE: 0.92,
        keys.SIZE_H5: 2.72,
        keys.ESTIMATE_INFERENCE_FLOPS: 469_504.0,
        keys.ESTIMATE_TRAINING_FLOPS: 1_408_512.0,
        keys.ESTIMATE_TRAINING_MEMORY: 2.69,
    },
    "cnn": {
        keys.PARAMETERS_TRAINABLE: 56_714.0,
        keys.FLOPS_INFERENCE: 1_442_332.0,
        keys.FLOPS_TRAINING: 4_147_166.0,
        keys.FLOPS_TRAINING_TOTAL: 5 * 60_000 * 4_147_166.0,
        keys.SIZE_INFERENCE: 0.25,
        keys.SIZE_H5: 0.69,
        keys.ESTIMATE_INFERENCE_FLOPS: 113_184.0,
        keys.ESTIMATE_TRAINING_FLOPS: 339_552.0,
        keys.ESTIMATE_TRAINING_MEMORY: 0.65,
    },
}


@dataclass(frozen=True)
class Simulated:
    """One run to log.

    Attributes:
        model: Its costs are the built-in model's of that name, else the MLP's.
        seed: Decides which images it gets wrong, and the noise of what is measured.
        accuracy: Of the test images; what is logged is what the predictions come to.
        status: How it ended.
        params: Beside or instead of the usual ones.
        tags: Likewise.
        name: Of the run.
        predictions: Whether it has the artifact.
    """

    model: str = "mlp"
    seed: int = 0
    accuracy: float = 0.9
    status: str = "FINISHED"
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    predictions: bool = True


def log_run(
    client: MlflowClient, run: Simulated, experiment_id: str = "0", run_id: str = ""
) -> str:
    """Log a run, a new one unless its id is given, and return its id."""
    random = np.random.default_rng([run.seed, len(run.model), *run.model.encode()])
    name = run.name or f"{run.model}, seed {run.seed}"
    run_id = run_id or str(client.create_run(experiment_id, run_name=name).info.run_id)
    label = np.arange(TEST_IMAGES) % CLASSES
    is_wrong = random.permutation(TEST_IMAGES) >= round(run.accuracy * TEST_IMAGES)
    predicted = (label + is_wrong) % CLASSES
    accuracy = float(np.mean(predicted == label))
    tags: dict[str, str] = {
        keys.KIND: keys.KIND_TRAINING,
        keys.VERSION: __version__,
        keys.MODEL: run.model,
        keys.DATASET_DIGEST: "d" * 64,
        **MACHINE,
        **run.tags,
    }
    params = {
        "model": run.model,
        "epochs": "5",
        "batch_size": "64",
        "learning_rate": "0.001",
        "optimizer": "adam",
        "loss": "sparse_categorical_crossentropy",
        "seed": str(run.seed),
        "validation_split": "0.0",
        "dataset": "fashion_mnist",
        **run.params,
    }
    metrics: dict[str, float] = {
        keys.TEST_ACCURACY: accuracy,
        keys.TEST_LOSS: 1 - accuracy,
        **COSTS.get(run.model, COSTS["mlp"]),
        keys.MEMORY_PEAK: 1400 + random.normal(0, 5),
        keys.MEMORY_TRAINING: 400 + random.normal(0, 5),
        keys.LATENCY_P50: 0.3 + abs(random.normal(0, 0.01)),
        keys.FIT_SECONDS: 20 + random.normal(0, 0.5),
    }
    points = [Metric(key, value, 1000, 0) for key, value in metrics.items()]
    for epoch in range(1, 6):
        reached = accuracy - 0.02 * (5 - epoch)
        curve = {
            keys.LOSS: 1 - reached,
            keys.ACCURACY: reached,
            keys.VAL_LOSS: 1 - reached,
            keys.VAL_ACCURACY: reached,
            keys.EPOCH_SECONDS: 4.0,
        }
        points += [Metric(key, value, 1000 + epoch, epoch) for key, value in curve.items()]
    client.log_batch(
        run_id,
        metrics=points,
        params=[Param(key, value) for key, value in params.items()],
        tags=[RunTag(key, value) for key, value in tags.items()],
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _write_artifacts(folder, metrics)
        if run.predictions:
            probability = np.eye(CLASSES, dtype=np.float32)[predicted]
            (folder / "predictions").mkdir()
            np.savez_compressed(
                folder / keys.PREDICTIONS_FILE, label=label, probability=probability
            )
        client.log_artifacts(run_id, temporary)
    if run.status != "RUNNING":
        client.set_terminated(run_id, run.status)
    return run_id


def _write_artifacts(folder: Path, metrics: Mapping[str, float]) -> None:
    measurements = [
        {"name": str(name), "value": value, "unit": "1", "method": "chosen", "interval": None}
        for name, value in metrics.items()
    ]
    document = {"format": 1, "machine": {}, "measurements": measurements}
    (folder / keys.MEASUREMENTS_FILE).write_text(json.dumps(document))
    (folder / "flops").mkdir()
    with (folder / keys.FLOPS_LAYERS_FILE).open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["layer", "type", "parameters", "forward_flops"])
        rows.writerow(["dense", "Dense", "10", "20"])


def log_regression(
    client: MlflowClient,
    model: str,
    seed: int,
    noise: float,
    *,
    examples: int = 400,
    foreign: bool = False,
    experiment_id: str = "0",
) -> str:
    """Log a run of numbers as a loop of one's own does, and return its id.

    It has what a regression has: errors, their curves, targets and predictions; no accuracy, and
    of the costs the parameters alone.

    Args:
        client: Of the store.
        model: Its name decides which examples are hard for it.
        seed: Of its own errors.
        noise: Their standard deviation, about.
        examples: Of the test set, the same for every model.
        foreign: As other software logs it: no tags of ours, and no artifacts.
        experiment_id: Where it goes.
    """
    target = np.random.default_rng(7).normal(10, 3, examples)
    own = np.random.default_rng([len(model), *model.encode()]).normal(0, noise / 2, examples)
    random = np.random.default_rng([seed, *model.encode()])
    prediction = target + own + random.normal(0, noise, examples) * random.uniform(0.95, 1.05)
    error = prediction - target
    mae, mse = float(np.mean(np.abs(error))), float(np.mean(error**2))
    run_id = str(client.create_run(experiment_id, run_name=f"{model}, {seed}").info.run_id)
    tags: dict[str, str] = {
        keys.KIND: keys.KIND_TRAINING,
        keys.VERSION: __version__,
        keys.MODEL: model,
        keys.DATASET_DIGEST: "e" * 64,
        **MACHINE,
    }
    final = {"test_mae": mae, "test_rmse": mse**0.5, "test_loss": mse}
    if not foreign:
        final[keys.PARAMETERS_TRAINABLE] = 100.0 * len(model)
    points = [Metric(key, value, 1000, 0) for key, value in final.items()]
    for epoch in range(1, 6):
        curve = {"val_mae": mae + 0.1 * (5 - epoch), "mae": mae, keys.EPOCH_SECONDS: 2.0}
        points += [Metric(key, value, 1000 + epoch, epoch) for key, value in curve.items()]
    client.log_batch(
        run_id,
        metrics=points,
        params=[Param("model", model), Param("seed", str(seed)), Param("loss", "mse")],
        tags=[] if foreign else [RunTag(key, value) for key, value in tags.items()],
    )
    if not foreign:
        with tempfile.TemporaryDirectory() as temporary:
            file = Path(temporary) / keys.PREDICTIONS_FILE
            file.parent.mkdir()
            np.savez_compressed(
                file, target=target.astype(np.float32), prediction=prediction[:, None]
            )
            client.log_artifact(run_id, str(file), str(Path(keys.PREDICTIONS_FILE).parent))
    client.set_terminated(run_id)
    return run_id
