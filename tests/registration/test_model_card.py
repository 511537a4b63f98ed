"""The model card: whole, true to its figures, and plain text whatever the names are."""

from __future__ import annotations

from dataclasses import replace

from fm_mlflow import keys
from fm_mlflow.registration.model_card import ModelCard, render_model_card

CARD = ModelCard(
    name="fashion-mnist-classifier",
    model="cnn",
    run_id="0" * 32,
    run_name="cnn, 5 epochs, seed 0",
    command="fm-mlflow train --model cnn",
    dataset="Fashion-MNIST",
    dataset_digest="abc" * 20,
    train_images=60_000,
    test_images=10_000,
    validated_on="the test set",
    config={"batch_size": "64", "epochs": "5"},
    class_names=("T-shirt/top", "Trouser"),
    input_shape=(28, 28, 1),
    gives_logits=False,
    metrics={keys.TEST_ACCURACY: 0.9, keys.TEST_LOSS: 0.3012, keys.LATENCY_P50: 0.5},
    measurements={
        keys.LATENCY_P50: {"value": 0.5, "interval": [0.4, 0.6], "method": "median of calls"},
        keys.FLOPS_INFERENCE: {"value": None, "reason": "left out by --measure"},
    },
    same_machine=False,
    verified=("test_accuracy", "weights digest"),
    verified_at="2026-01-02T03:04:05Z",
    seed_accuracies=(0.89, 0.9, 0.91),
)


def test_it_says_what_the_figures_say() -> None:
    lines = render_model_card(CARD).splitlines()
    # Wilson: 0.9 of 10,000.
    assert lines[0] == (
        "cnn on Fashion-MNIST: test accuracy 0.9000 (95% interval 0.8940 to 0.9057), "
        "test loss 0.3012, on 10,000 images."
    )
    assert "3 seeds: test accuracy 0.8900 to 0.9100, mean 0.9000" in lines[1]
    assert "| latency, one image (median) | 0.50 ms (0.40 to 0.60) | median of calls |" in lines
    assert "| FLOPs to predict an image | not measured | left out by --measure |" in lines
    assert "- Settings: batch\\_size 64, epochs 5." in lines
    assert "# images: float32, 0 to 1, shape (n, 28, 28, 1)" in lines
    assert any("on another machine" in line for line in lines)
    assert lines.index("| 1 | Trouser |") == lines.index("| 0 | T-shirt/top |") + 1


def test_names_are_text() -> None:
    hostile = "a|b <script>x</script>\n# title"
    card = replace(CARD, model=hostile, run_name=hostile, class_names=(hostile, "b"))
    text = render_model_card(card)
    assert "<script>" not in text.replace("\\<script", "")
    assert text.count("\n") == render_model_card(CARD).count("\n")
