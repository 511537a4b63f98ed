"""What a person sees of a verification: each figure, and who found it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fm_mlflow.results.register import (
    Check,
    Gate,
    RegisteredVersion,
    Registration,
    Rollback,
    VersionList,
)
from fm_mlflow.terminal.lines import SafeConsole
from fm_mlflow.terminal.register import print_registration, print_rollback, print_versions

VERIFIED = Registration(
    run_id="r",
    run_name="mlp, seed 0",
    model_uri="models:/m-0",
    name="digits-classifier",
    dataset="digits",
    dataset_digest="a" * 64,
    metric="test_accuracy",
    direction="higher",
    dataset_note="",
    version=None,
    outcome="dry run",
    champion=None,
    previous=None,
    reason="The run that was named.",
    same_machine=True,
    checks=(
        Check("test_accuracy", 0.9, 0.9, "equal", True),
        Check("weights digest", "abc", "abc", "equal", True, "model"),
    ),
    gates=(Gate("--max-latency-ms", "at most 1", "0.5", True, "model"),),
    tracking_uri="sqlite:///mlflow.db",
)


def test_what_the_models_own_process_measured_is_marked() -> None:
    console = SafeConsole(file=io.StringIO(), width=80)
    print_registration(console, VERIFIED)
    assert isinstance(console.file, io.StringIO)
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    assert "test_accuracy 0.9000 0.9000 ok" in lines
    assert "weights digest * abc abc ok" in lines
    assert "--max-latency-ms * at most 1 0.5 ok" in lines
    assert "* measured by the process that ran the model's code, which could say otherwise" in lines
    assert [check["by"] for check in VERIFIED.to_dict()["checks"]] == ["us", "model"]


def test_what_follows_from_the_runs_own_predictions_is_not_called_ok() -> None:
    console = SafeConsole(file=io.StringIO(), width=80)
    own = Check("test_mae", 0.2, 0.2, "its test data are not here", True, "run")
    print_registration(console, replace(VERIFIED, checks=(own,)))
    assert isinstance(console.file, io.StringIO)
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    assert "test_mae ** 0.2000 0.2000 as logged" in lines
    assert any(line.startswith("** of the predictions that the run logged") for line in lines)


def test_what_was_refused_says_what_would_pass() -> None:
    console = SafeConsole(file=io.StringIO(), width=80)
    gate = Gate("--min-accuracy", "at least 0.95", "0.9", False, needed="test accuracy at least 1")
    print_registration(console, replace(VERIFIED, outcome="refused", gates=(gate,)))
    assert isinstance(console.file, io.StringIO)
    assert "\n  to pass: --min-accuracy: test accuracy at least 1 " in console.file.getvalue()


NOTE = "digits-classifier has no record of its data set; version 3 has"
NAMED: list[tuple[Callable[[SafeConsole, Any], None], Any, list[str]]] = [
    (print_registration, VERIFIED, ["mlp, seed 0 on digits", "digits-classifier, on digits"]),
    (print_registration, replace(VERIFIED, dataset_note=NOTE), [NOTE]),
    (
        print_registration,
        replace(VERIFIED, outcome="registered", version=2, previous=1),
        ["version 2 of digits-classifier, on digits, is registered and is the champion; version 1"],
    ),
    (
        print_registration,
        replace(VERIFIED, outcome="unchanged", version=2, dataset="idx"),
        ["version 2 of digits-classifier, on idx data aaaaaaaa, is this model"],
    ),
    (print_registration, replace(VERIFIED, outcome="refused"), ["in digits-classifier, on digits"]),
    (
        print_rollback,
        Rollback("digits-classifier", "digits", "a", 1, 2, "r", ""),
        ["version 1 of digits-classifier, on digits, is the champion again"],
    ),
    (
        print_versions,
        VersionList("v", "digits", "a", (RegisteredVersion(1, (), None, None, {}, 0),), ""),
        ["v, on digits"],
    ),
    (
        print_versions,
        VersionList("v", None, None, (RegisteredVersion(1, (), None, None, {}, 0),), ""),
        ["v, on unknown data"],
    ),
]


@pytest.mark.parametrize(("show", "result", "texts"), NAMED)
def test_the_data_set_stands_on_every_line_of_a_promotion(
    show: Callable[[SafeConsole, Any], None], result: Any, texts: list[str]
) -> None:
    stream = io.StringIO()
    show(SafeConsole(file=stream, width=80), result)
    said = " ".join(stream.getvalue().split())
    assert all(text in said for text in texts)


def test_a_list_of_versions_fits_80_columns_and_breaks_no_name() -> None:
    model = "a_folder_of_models/another_one/networks.py:build_the_widest_of_all_networks"
    tags = {
        "test_accuracy": "0.9012",
        "flops/inference": "144233200",
        "size/inference_mib": "1250.25",
        "latency/p50_ms": "12.345",
        "fm_mlflow.model": model,
        "fm_mlflow.verified_at": "2026-11-27T10:00:00",
        "mlflow.source.git.commit": "0123456789abcdef",
    }
    versions = (
        RegisteredVersion(12, ("champion",), None, None, tags, 0),
        RegisteredVersion(11, ("previous",), None, None, {}, 0),
    )
    stream = io.StringIO()
    listed = VersionList("digits-classifier", "digits", "a", versions, "")
    print_versions(SafeConsole(file=stream, width=80), listed)
    _, heads, first, name, second, unnamed = stream.getvalue().splitlines()
    assert max(map(len, (heads, first, second))) <= 80
    assert heads.index("commit") == first.index("01234567")
    assert first.split()[:3] == ["12", "champion", "0.9012"]
    assert second.split() == ["11", "previous", "-", "-", "-", "-", "1970-01-01", "-"]
    assert (name.strip(), unnamed.strip()) == (model, "not verified")
