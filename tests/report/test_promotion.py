"""Promotions as Markdown for the page of a pipeline."""

from __future__ import annotations

from dataclasses import replace

from markdown_it import MarkdownIt

from fm_mlflow import keys
from fm_mlflow.errors import InputError
from fm_mlflow.report.promotion import to_summary
from fm_mlflow.results.register import Champion, Check, Gate, GateError, Registration
from tests.hostile import HOSTILE, filled
from tests.terminal.test_register import VERIFIED

REFUSED = replace(
    VERIFIED,
    outcome="refused",
    figures={keys.TEST_ACCURACY: 0.879, keys.FLOPS_INFERENCE: 469_948.0, keys.LATENCY_P50: 0.3},
    against=Champion(
        3, "cnn", "c" * 32, {keys.TEST_ACCURACY: 0.8904, keys.FLOPS_INFERENCE: 1_442_332.0}
    ),
    gates=(
        Gate("--max-flops", "at most 2,000,000", "469,948", True),
        Gate("accuracy v version 3", "not below it", "-1.14", False, needed="0.8854 or more"),
    ),
    others="1 run would keep the bounds",
)


def lines(registration: Registration | None, error: Exception | None = None) -> list[str]:
    return [line for line in to_summary(registration, error).splitlines() if line]


def test_the_model_stands_beside_the_champion_with_what_it_lacks() -> None:
    assert lines(REFUSED) == [
        "## Not promoted: mlp, seed 0",
        "Refused: nothing was changed in digits-classifier, on digits.",
        "|  | this model | champion, version 3 |",
        "|---|---:|---:|",
        "| model | mlp, seed 0 | cnn |",
        f"| run | r | {'c' * 32} |",
        "| test accuracy | 0.8790 | 0.8904 |",
        "| FLOPs per prediction | 469,948 | 1,442,332 |",
        "| latency (median) | 0.30 ms | not measured |",
        "The run that was named.",
        "### Gates",
        r"- passed: \--max-flops: required at most 2,000,000, found 469,948",
        "- **failed**: accuracy v version 3: required not below it, found -1.14",
        "### Verified",
        "- 2 of 2 figures of the run were found again in its logged model, in a fresh process",
        "### What it would pass with",
        "- accuracy v version 3: 0.8854 or more",
        "1 run would keep the bounds.",
    ]


def test_the_first_model_has_no_champion_beside_it() -> None:
    said = lines(replace(VERIFIED, gates=(), figures={keys.TEST_ACCURACY: 0.9}))
    assert said[0] == "## May be promoted: mlp, seed 0"
    assert "| test accuracy | 0.9000 |" in said
    assert "- none: there is no champion to hold it against, and no bound was given" in said
    assert not any(line.startswith("### What") for line in said)


def test_what_was_not_found_again_is_named() -> None:
    changed = Check(keys.TEST_ACCURACY, 0.99, 0.9, "equal", False)
    said = lines(replace(VERIFIED, outcome="refused", checks=(changed,)))
    assert "- 0 of 1 figure of the run were found again" in " ".join(said)
    assert r"- **failed**: test\_accuracy: logged 0.99, found 0.9, required: equal" in said
    assert any(line.startswith(r"- test\_accuracy: a model that is what its run") for line in said)


def test_what_could_not_be_decided_says_why() -> None:
    error = InputError("max_flops", "x", "a number")
    assert lines(None, error) == [
        "## Not decided",
        r"max\_flops: received 'x', accepted: a number",
    ]
    assert lines(None, GateError("of other data")) == [
        "## Not promoted",
        "not promoted: of other data",
    ]


def test_what_no_gate_refused_says_why() -> None:
    passed = tuple(gate for gate in REFUSED.gates if gate.passed)
    refused = replace(REFUSED, gates=passed, others="")
    said = lines(refused, GateError("version 4 became the champion meanwhile; run it again"))
    assert said[:2] == [
        "## Not promoted: mlp, seed 0",
        "Refused: nothing was changed in digits-classifier, on digits. Not promoted: version 4 "
        "became the champion meanwhile; run it again.",
    ]
    assert lines(REFUSED, GateError("of a gate"))[1].endswith("on digits.")


def test_foreign_text_stays_text() -> None:
    text = to_summary(filled(Registration), None)
    assert "FORGED" in text
    assert {character for character in text if not character.isprintable()} == {"\n"}
    page = MarkdownIt("commonmark").enable("table").render(text)
    assert not any(tag in page for tag in ("<script", "<a ", "<img", "<code", "<h1"))
    assert page.count("<table>") == 1
    assert HOSTILE not in text
