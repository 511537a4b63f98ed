"""The model card: whole, true to its figures, and plain text whatever the names are."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
from markdown_it import MarkdownIt

from fm_mlflow import keys
from fm_mlflow.analysis.objective import DEFAULT, Objective
from fm_mlflow.analysis.records import TrainingRun
from fm_mlflow.data.dataset import Dataset, Subset
from fm_mlflow.registration.checks import Verification
from fm_mlflow.registration.model_card import render_model_card, render_own_data_card
from fm_mlflow.results.register import Check
from fm_mlflow.tracking.candidate import Candidate
from tests.hostile import HOSTILE, spoilt

METRICS: dict[str, float] = {keys.TEST_ACCURACY: 0.9, keys.TEST_LOSS: 0.3012, keys.LATENCY_P50: 0.7}
LATENCY = {"value": 0.5, "interval": [0.4, 0.6], "method": "median of calls"}


def images(count: int) -> Subset:
    return Subset(np.zeros((count, 1, 1), np.uint8), np.zeros(count, np.uint8))


RUN = TrainingRun(
    run_id="0" * 32,
    name="cnn, 5 epochs, seed 0",
    model="cnn",
    config={"batch_size": "64", "epochs": "5"},
    seed=0,
    metrics=METRICS,
)
DATASET = Dataset(
    name="fashion_mnist",
    train=images(60_000),
    validation=None,
    test=images(10_000),
    class_names=("T-shirt/top", "Trouser"),
    source="",
)
VERIFICATION = Verification(
    checks=(
        Check("test_accuracy", 0.9, 0.9, "equal", True),
        Check("weights digest", "abc", "abc", "equal", True, "model"),
        Check("latency/p50_ms", 0.7, 0.5, "none: measured again", None),
    ),
    measurements={keys.LATENCY_P50: LATENCY},
    same_machine=False,
    input_shape=(28, 28, 1),
    gives_logits=False,
    verified_at="2026-01-02T03:04:05Z",
)


def model_card(
    run: TrainingRun = RUN,
    dataset: Dataset = DATASET,
    name: str = "fashion-mnist-classifier",
    objective: Objective = DEFAULT,
) -> str:
    command = "fm-mlflow train --model cnn"
    seeds = (0.89, 0.9, 0.91)
    return render_model_card(
        *(name, candidate_of(run), dataset, VERIFICATION, command, seeds, objective)
    )


def candidate_of(run: TrainingRun) -> Candidate:
    return Candidate(
        run=run,
        model_uri="models:/m-0",
        model_folder=Path("model"),
        model_bytes=0,
        model_digest="d" * 64,
        own_digest="e" * 64,
        saved_digest="e" * 64,
        input_shape=(28, 28, 1),
        gives_logits=False,
        class_names=DATASET.class_names,
        predictions_file=Path("test.npz"),
        measurements={
            keys.LATENCY_P50: {"value": 0.7, "interval": [0.6, 0.8], "method": "as it was trained"},
            keys.FLOPS_INFERENCE: {"value": None, "reason": "left out by --measure"},
        },
        weights_digest=None,
        data_source=None,
    )


def own_data_card(run: TrainingRun, objective: Objective) -> str:
    candidate = replace(candidate_of(run), class_names=(), input_shape=(10,))
    verification = replace(VERIFICATION, input_shape=(10,))
    return render_own_data_card("own-model", candidate, verification, (0.2, 0.3), objective)


def test_of_a_scripts_own_data_it_says_what_was_not_verified() -> None:
    run = replace(RUN, metrics={"test_mae": 0.25}, data_digest="a" * 64)
    lines = own_data_card(run, Objective("test_mae", smaller_is_better=True)).splitlines()
    assert lines[0] == "cnn: test\\_mae 0.2500, on test data that only its script had."
    assert lines[1].startswith("Trained with 2 seeds: test\\_mae 0.2000 to 0.3000")
    assert "# inputs: shape (n, 10), as in the input example" in lines
    assert any(line.startswith("- Data of contents SHA-256 aaaaaaaaaaaaaaaa…") for line in lines)
    assert any("Not verified: that this model, rather than another" in line for line in lines)
    assert "image" not in " ".join(lines).replace("an image", "").replace("one image", "")


def test_it_says_what_the_figures_say() -> None:
    lines = model_card().splitlines()
    # Wilson: 0.9 of 10,000.
    assert lines[0] == (
        "cnn on Fashion-MNIST: test accuracy 0.9000 (95% interval 0.8940 to 0.9057), "
        "test loss 0.3012, on 10,000 images."
    )
    assert "3 seeds: test accuracy 0.8900 to 0.9100, mean 0.9000" in lines[1]
    assert "| latency, one image (median) | 0.50 ms (0.40 to 0.60) | median of calls |" in lines
    assert "| FLOPs per prediction | not measured | left out by --measure |" in lines
    assert "- Settings: batch\\_size 64, epochs 5." in lines
    assert "# images: float32, 0 to 1, shape (n, 28, 28, 1)" in lines
    assert any("on another machine" in line for line in lines)
    assert any(line.endswith("the run had logged: test\\_accuracy.") for line in lines)
    assert any(line.endswith("measured as the run had logged: weights digest.") for line in lines)
    assert any(line.endswith("; 60,000 training images, 10,000 test images.") for line in lines)
    assert "- Validated after each epoch on the test set." in lines
    assert lines.index("| 1 | Trouser |") == lines.index("| 0 | T-shirt/top |") + 1


def test_another_metric_that_decided_is_named() -> None:
    run = replace(RUN, metrics={**RUN.metrics, "val_mae": 0.25})
    lines = model_card(run, objective=Objective("val_mae", smaller_is_better=True)).splitlines()
    assert lines[1] == "Promoted by val\\_mae, 0.2500 (lower is better)."
    assert "3 seeds: val\\_mae 0.8900 to 0.9100, mean 0.9000" in lines[2]


def test_names_are_text() -> None:
    hostile = "a|b <script>x</script>\n# title"
    text = model_card(
        run=replace(RUN, model=hostile, name=hostile),
        dataset=replace(DATASET, class_names=(hostile, "b")),
    )
    assert "<script>" not in text.replace("\\<script", "")
    assert text.count("\n") == model_card().count("\n")


def test_no_text_of_a_run_is_more_than_text() -> None:
    run = spoilt(RUN)
    dataset = replace(DATASET, class_names=(HOSTILE, HOSTILE))
    name = 'x"); import os; os.system("rm '
    parser = MarkdownIt("commonmark").enable("table")
    waiting = parser.parse(model_card(run, dataset, name))
    waiting += parser.parse(own_data_card(run, Objective(HOSTILE)))
    types = set()
    while waiting:
        token = waiting.pop()
        types.add(token.type)
        waiting += token.children or []
        if token.type == "fence":  # to be copied, so it must be what it seems
            program = ast.parse(token.content)
            texts = [each.value for each in ast.walk(program) if isinstance(each, ast.Constant)]
            assert {f"models:/{name}@champion", "models:/own-model@champion"} & set(texts)
    assert "fence" in types
    assert types.isdisjoint({"link_open", "image", "html_inline", "html_block", "heading"})
