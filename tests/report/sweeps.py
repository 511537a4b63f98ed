"""Results of sweeps, made by hand."""

from __future__ import annotations

from dataclasses import replace

from fm_mlflow import keys
from fm_mlflow.results.sweep import Finalist, Spent, SweepResult, SweepTrial
from fm_mlflow.settings.space import Each, Float, Int, OneOf, Range, space_text
from fm_mlflow.settings.sweep import SweepConfig

RANGES: dict[str, Range] = {
    "width": Int(8, 256, log=True),
    "rate": Float(1e-4, 1e-2, log=True),
    "kind": OneOf("relu", "gelu"),
    "filters": Each(Int(4, 32), Int(8, 64)),
}


def trial(number: int, width: int, epochs: int = 4, **more: object) -> SweepTrial:
    settings = {"width": str(width), "rate": "0.001", "kind": "gelu", "filters": "8,16"}
    curve = {epoch: 0.9 - 1 / width - 0.1 / epoch for epoch in range(1, epochs + 1)}
    made = SweepTrial(
        number=number,
        run_id=f"run-{number}",
        settings=settings,
        status="trained" if epochs == 4 else "stopped",
        epochs=epochs,
        value=curve.get(epochs),
        curve=curve,
        costs={keys.FLOPS_INFERENCE: width * 1000.0, keys.PARAMETERS_TRAINABLE: width * 10.0},
        training_flops=width * 3e6 * epochs,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def sweep_result() -> SweepResult:
    """Return a sweep with trials of every kind and two proven finalists."""
    bounded = trial(4, 250, status="bounded out", epochs=0, value=None, curve={}, note="too dear")
    failed = trial(5, 9, status="failed", epochs=0, value=None, curve={}, costs={}, note="diverged")
    trials = (
        trial(0, 64, is_default=True),
        trial(1, 128, on_front=True),
        trial(2, 32, on_front=True),
        trial(3, 16, 1),
        bounded,
        failed,
    )
    return SweepResult(
        run_id="sweep-run",
        run_name="sweep of nets.py:build, 6 trials",
        experiment_id="0",
        tracking_uri="sqlite:///mlflow.db",
        config=SweepConfig(model="nets.py:build", space="rate=1e-4:1e-2:log", dataset="digits"),
        space=space_text(RANGES),
        ranges=RANGES,
        trials=trials,
        finalists=(
            Finalist("nets.py:build", None, True, "build (width 64)", None, 0.9, 0.89, 0.91, 64e3),
            Finalist(
                "nets.py:build?width=32#batch_size=32",
                *(2, False, "build (width 32)", 0.86, 0.85, 0.84, 0.86, 32e3),
                against_default="build (width 32) is worse",
            ),
        ),
        recommended="nets.py:build?width=32#batch_size=32",
        reason="it is cheaper",
        spent=Spent(90.0, 3.2e12, 13, 24, 1, 9.6e11, 1),
        importance={"width": 0.7, "rate": 0.2, "kind": 0.0, "filters.0": 0.1, "filters.1": 0.0},
        ended="all trials are done",
        files={"sweep.html": "sweep/sweep.html"},
    )


def hostile_result(text: str) -> SweepResult:
    """Return the same with a text in every place that a user's code or a store fills."""
    made = sweep_result()
    ranges: dict[str, Range] = {text: Int(8, 256), "kind": OneOf(text, "b;c")}

    def spoilt(each: SweepTrial) -> SweepTrial:
        settings = {text: "9", "kind": text}
        return replace(each, settings=settings, run_id=text, note=each.note and text)

    config = made.config.model_copy(update={"model": text, "space": text, "dataset": text})
    finalists = (
        replace(each, entry=text, group=text, against_default=text) for each in made.finalists
    )
    return replace(
        made,
        run_id=text,
        run_name=text,
        tracking_uri=text,
        config=config.model_copy(update={"metric": f"val_{text}"}),
        space=space_text(ranges),
        ranges=ranges,
        trials=tuple(map(spoilt, made.trials)),
        finalists=tuple(finalists),
        recommended=text,
        reason=text,
        importance={text: 0.5, "kind": 0.5},
        ended=text,
        files={"sweep.html": text},
    )
