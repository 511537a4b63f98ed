"""The report of a sweep: whole, safe, the same bytes; its table, its description."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from fm_mlflow.report.describe_sweep import describe_sweep, flattered, spent_sentences
from fm_mlflow.report.sweep_html import to_html
from fm_mlflow.report.sweep_tables import to_csv, to_json
from tests.hostile import HOSTILE
from tests.report.page import parse
from tests.report.sweeps import hostile_result, sweep_result


@pytest.mark.thorough
def test_the_page_has_every_part_and_is_the_same_twice() -> None:
    page = to_html(sweep_result())
    assert page == to_html(sweep_result())
    for section in ("recommendation", "proof", "search", "spent", "trials"):
        assert f'<section id="{section}">' in page
    for plot in ("sweep-front", "sweep-curves", "sweep-parallel", "sweep-importance"):
        assert f'id="{plot}-title"' in page
    for text in (
        "from being trained, 960 GFLOP less",
        "too dear",
        "diverged",
        "3.20 TFLOP",
        "0.0100",
    ):
        assert text in page
    parse(page)  # which fails where a tag is left open


def test_a_search_without_proof_or_results_says_so() -> None:
    made = sweep_result()
    trials = [each for each in made.trials if each.value is None]
    empty = replace(
        made, trials=tuple(trials), finalists=(), importance={}, recommended="", reason="none"
    )
    page = to_html(empty)
    assert "the search's own view, and flatters" in page.replace("&#39;", "'")
    assert "<svg" not in page
    assert flattered(empty) == ""
    assert "nothing, without proof" in describe_sweep(empty)


def test_what_halving_and_bounds_saved_is_said() -> None:
    took, stopped, bounded = spent_sentences(sweep_result())
    assert "1.5 minutes" in took
    assert "13 epochs" in took
    assert "24 epochs; 1 trial stopped early" in stopped
    assert "1 trial from being trained" in bounded
    assert flattered(sweep_result()).startswith("The search's own figures are 0.0100 above")


@pytest.mark.thorough
def test_foreign_text_stays_text() -> None:
    page = to_html(hostile_result(HOSTILE))
    parse(page)
    for forged in ("<script", "\x1b", "\u202e", 'href="http'):
        assert forged not in page
    description = describe_sweep(hostile_result(HOSTILE))
    assert all(line.isprintable() for line in description.split("\n"))
    assert "<script" not in description.replace("\\<script", "")
    rows = list(csv.reader(io.StringIO(to_csv(hostile_result(HOSTILE)))))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row)


def test_programs_get_everything() -> None:
    made = sweep_result()
    rows = list(csv.DictReader(io.StringIO(to_csv(made))))
    assert [row["status"] for row in rows] == [trial.status for trial in made.trials]
    assert [row["width"] for row in rows] == ["64", "128", "32", "16", "250", "9"]
    values = json.loads(to_json(made))
    assert values["trials"][1]["on_front"] is True
    assert values["ranges"]["width"] == {"low": 8, "high": 256, "log": True}
    assert values["comparison_run_id"] is None
