"""What a person sees of a verification: each figure, and who found it."""

from __future__ import annotations

import io

from fm_mlflow.results.register import Check, Gate, Registration
from fm_mlflow.terminal.lines import SafeConsole
from fm_mlflow.terminal.register import print_registration

VERIFIED = Registration(
    run_id="r",
    run_name="mlp, seed 0",
    model_uri="models:/m-0",
    name="digits-classifier",
    dataset="digits",
    dataset_digest="a" * 64,
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
