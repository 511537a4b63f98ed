"""What tracking adds to a fit: journal, metrics, checkpoints and the sampling of memory.

    python -m benchmarks.tracking --rounds 5

In one process that has TensorFlow warm, each round fits both models on Fashion-MNIST twice, in
turn: by the bare loop, and by `fm_mlflow.train`, which logs to a SQLite store. Prints one JSON
object: seconds of each fit, and the median over the rounds of their ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--models", default="mlp,cnn")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tracking-") as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{Path(folder) / 'mlflow.db'}"
        os.environ["FM_MLFLOW_JOURNAL_DIR"] = str(Path(folder) / "journals")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        print(json.dumps(measure(given.models.split(","), given.rounds, given.epochs), indent=1))


def measure(models: list[str], rounds: int, epochs: int) -> dict[str, object]:
    """Fit in turn, tracked and bare; the first of all is not counted."""
    from fm_mlflow import train

    bare: dict[str, list[float]] = {model: [] for model in models}
    tracked: dict[str, list[float]] = {model: [] for model in models}
    train(models[0], epochs=1, measure="none")  # makes the store and warms up
    for number in range(rounds):
        for model in models:
            for which in ("bare", "tracked") if number % 2 else ("tracked", "bare"):
                if which == "bare":
                    bare[model].append(bare_fit_seconds(model, epochs, seed=number))
                else:
                    result = train(model, epochs=epochs, seed=number, measure="memory")
                    tracked[model].append(result.metrics["time/fit_seconds"])
    ratios = {
        model: statistics.median(
            one / other for one, other in zip(tracked[model], bare[model], strict=True)
        )
        for model in models
    }
    return {"tracked / bare": ratios, "tracked, s": tracked, "bare, s": bare}


def bare_fit_seconds(model: str, epochs: int, seed: int) -> float:
    """Fit without a run."""
    import keras

    from fm_mlflow.config import TrainConfig
    from fm_mlflow.data.dataset import load_dataset
    from fm_mlflow.fitting import fit
    from fm_mlflow.training.models import build_model

    config = TrainConfig(model=model, epochs=epochs, seed=seed)
    dataset = load_dataset(config.dataset)
    built = build_model(config, dataset)

    result = fit(
        built.model,
        built.examples(dataset.train),
        built.examples(dataset.test),
        epochs=epochs,
        batch_size=config.batch_size,
        seed=seed,
        on_epoch=lambda _epoch, _metrics: None,
    )
    keras.backend.clear_session()
    return result.seconds


if __name__ == "__main__":
    main()
