"""Rounds of seeds end where nothing more can be trained, and say so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fm_mlflow.analysis.seed_course import Course
from fm_mlflow.jobs.seed_rounds import SeedRounds, design_of
from fm_mlflow.listeners import BenchmarkListener
from fm_mlflow.settings.config import BenchmarkConfig


class Heard(BenchmarkListener):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


class Trainings(SimpleNamespace):
    def run_all(self, trainings: list[Any]) -> None:
        over = {(each.model, each.seed) for each in self.outcomes}
        self.outcomes += [
            SimpleNamespace(model=each.model, seed=each.seed, error=None)
            for each in trainings
            if (each.model, each.seed) not in over
        ]


def test_a_finished_training_without_the_metric_ends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    config = BenchmarkConfig(seeds="auto", metric="test_loss")
    design = design_of(config)
    assert design is not None
    trainings: Any = Trainings(outcomes=[], metric="test_loss")
    heard = Heard()
    rounds = SeedRounds(trainings, config, design, lambda: None, heard)
    lacking = Course({}, {"mlp": 3, "cnn": 3}, "training")
    monkeypatch.setattr(rounds, "_course", lambda: lacking)
    rounds.run_all()
    assert len(trainings.outcomes) == 6
    (notice,) = heard.notices
    assert "a finished training has no test_loss" in notice
