"""What came of trainings, as it is stored."""

from __future__ import annotations

import json

import pytest

from fm_mlflow.jobs.outcomes import to_json
from fm_mlflow.results.benchmark import BenchmarkTraining


@pytest.mark.parametrize(
    "error",
    ['it says password=abc"def', 'Cookie: abc=1; b="2"', "api_key=abc\\", 'token="abc\\"', None],
)
def test_a_secret_in_an_error_leaves_the_json_whole(error: str | None) -> None:
    training = BenchmarkTraining("f.py:net?password=abc", 0, "r", "FAILED", None, 1.5, error)
    text = to_json([training])
    (found,) = json.loads(text)
    assert "abc" not in text
    assert (found["model"], found["seconds"]) == ("f.py:net?password=***", 1.5)
    assert (found["error"] is None) == (error is None)
