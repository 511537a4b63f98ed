"""The figures of a comparison that the table of runs shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fm_mlflow import keys
from fm_mlflow.analysis.main_figures import main_figures
from tests.analysis.simulated import compared, runs


def test_what_the_recommended_model_scores_and_costs() -> None:
    cheap = {keys.FLOPS_INFERENCE: 100.0, keys.MEMORY_PEAK: 7.0}
    better = runs("cnn", [0.92, 0.93, 0.94, 0.95, 0.96], metrics=cheap)
    worse = runs("mlp", [0.82, 0.83, 0.84, 0.85, 0.86])
    comparison = compared([*better, *worse])
    assert comparison.best.model == "cnn"
    figures = main_figures(comparison)
    assert figures["verdict/models"] == 2
    assert figures["verdict/trainings"] == 10
    assert figures["verdict/test_accuracy"] == pytest.approx(0.94)
    assert figures["verdict/flops_inference"] == 100
    assert figures["verdict/memory_peak_rss_mib"] == 7
    assert figures.keys().isdisjoint(key for key in keys.all_keys() if key.is_metric)


def test_without_a_recommendation_only_how_much_was_compared() -> None:
    comparison = compared(runs("cnn", [0.9, 0.9]))
    nothing = replace(comparison, best=replace(comparison.best, model=None, run_id=None))
    assert main_figures(nothing) == {"verdict/models": 1, "verdict/trainings": 2}
