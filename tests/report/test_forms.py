"""Markdown, CSV and terminal say the same as the page."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Comparison, Statistic
from fm_mlflow.analysis.objective import DEFAULT
from fm_mlflow.analysis.prose.words import difference
from fm_mlflow.analysis.records import TrainingRun
from fm_mlflow.escaping import code_span, csv_field, markdown, printable
from fm_mlflow.report.contents import contents, notebook_columns
from fm_mlflow.report.csv import to_csv
from fm_mlflow.report.html import to_html
from fm_mlflow.report.layout import Groups
from fm_mlflow.report.markdown import to_markdown
from fm_mlflow.report.trade_off_plots import trade_offs
from fm_mlflow.report.verdict_tables import evidence
from fm_mlflow.results.compare import CompareResult
from fm_mlflow.terminal.compare import print_compare_result, print_comparison
from fm_mlflow.terminal.lines import SafeConsole
from fm_mlflow.terminal.output import show_result
from tests.analysis.simulated import compared, runs
from tests.hostile import HOSTILE, check_terminal, spoilt
from tests.report import comparisons
from tests.report.page import parse


def many() -> Comparison:
    return comparisons.many(groups=300)


CASES = [
    comparisons.comparison,
    comparisons.bare,
    comparisons.empty,
    comparisons.hostile,
    many,
    comparisons.by_error,
]


def on_terminal(comparison: Comparison, width: int = 80) -> str:
    stream = io.StringIO()
    print_comparison(SafeConsole(file=stream, width=width), comparison)
    return stream.getvalue()


@pytest.mark.parametrize("make", CASES)
def test_the_terminal_has_80_columns(make: Callable[[], Comparison]) -> None:
    text = on_terminal(make())
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text


def test_two_models_take_40_lines_without_trailing_blanks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    warnings = tuple(f"Warning {n}: {'two lines of words ' * 7}" for n in range(9))
    made = replace(comparisons.comparison(), warnings=warnings)
    files = {str(keys.REPORT_HTML_FILE): f"{'long/' * 10}report.html"}
    show_result(
        CompareResult("c" * 32, "1", "sqlite:///m.db", "a", files, made),
        print_compare_result,
        False,
    )
    lines = capsys.readouterr().out.splitlines()
    assert sum(-(-max(1, len(line)) // 80) for line in lines) <= 40  # as a terminal breaks them
    assert [line for line in lines if line.endswith(" ")] == []
    assert "- 6 more in the report" in lines
    assert (
        f"  MLFLOW_TRACKING_URI=sqlite:///m.db fm-mlflow register --run-id {made.best.run_id}"
        in lines
    )


def next_command(run: TrainingRun, benchmark: str = "", made: Comparison | None = None) -> str:
    """What is printed of the registry after a comparison that chooses a run."""
    made = made or comparisons.comparison()
    chosen = replace(made.groups[0], runs=(run,))
    best = replace(made.best, model=chosen.name, run_id=run.run_id)
    made = replace(made, groups=(chosen, *made.groups[1:]), best=best)
    stream = io.StringIO()
    files = {str(keys.REPORT_HTML_FILE): "report.html"}
    result = CompareResult("c" * 32, "1", "sqlite:///m.db", "a", files, made)
    print_compare_result(SafeConsole(file=stream, width=80), result, benchmark)
    return " ".join(stream.getvalue().partition("The whole report")[2].split())


def test_registering_is_offered_where_it_can_be_done() -> None:
    run = comparisons.comparison().groups[0].runs[0]
    assert f"fm-mlflow register --run-id {run.run_id}" in next_command(run)
    assert "fm-mlflow register --benchmark b1" in next_command(run, "b1")
    by_error = comparisons.by_error()
    words = " ".join(by_error.objective.options)
    assert next_command(run, "", by_error).endswith(f"register --run-id {run.run_id} {words}")
    assert next_command(run, "b1", by_error).endswith("register --benchmark b1")
    # A callback alone logs no model.
    said = next_command(replace(run, model_uri=None), "b1")
    assert f"Run {run.run_id} has no logged model to register: `fm-mlflow train` logs one" in said
    assert "fm-mlflow register" not in said
    assert "register" not in next_command(replace(run, version=None))  # of other software


def test_the_first_line_says_on_which_data() -> None:
    assert contents(comparisons.comparison()).scope.endswith(" on unknown data")
    each = [
        *runs("a", [0.9, 0.9], config={"dataset": "digits"}),
        *runs("b", [0.8], config={"dataset": "digits"}),
        *runs("a", [0.9], config={"dataset": "idx"}, data_digest="e" * 64),
    ]
    scope = contents(compared(each)).scope
    assert scope == (
        "2 data sets; compared are 2 models, 3 runs on digits; listed only, until --dataset names "
        "it: idx data eeeeeeee (1 model, 1 run)"
    )
    assert contents(compared(each[:3])).scope == "2 models, 3 runs on digits"


@pytest.mark.parametrize(
    ("experiment", "dataset", "expected"),
    [
        ("Default", "fashion_mnist", "Fashion-MNIST: a and b"),
        ("fm_mlflow", "prices.npz", "prices.npz: a and b"),
        ("week 12", "digits", "week 12: a and b on scikit-learn's digits"),
        ("Default", "idx", "idx data eeeeeeee: a and b"),
        ("Default", "", "data eeeeeeee: a and b"),
    ],
)
def test_the_title_names_models_data_and_a_chosen_experiment(
    experiment: str, dataset: str, expected: str
) -> None:
    config = {"dataset": dataset} if dataset else {}
    each = [run for m in "ab" for run in runs(m, [0.9], config=config, data_digest="e" * 64)]
    made = replace(compared(each), experiment=experiment)
    assert contents(made).title == expected
    assert to_markdown(made).startswith(f"# {markdown(expected)}\n\n**Take a: ")
    assert parse(to_html(made)).all("title")[0].text == expected
    assert on_terminal(made).startswith(f"{expected}\nTake a: ")


def test_the_title_of_what_nobody_named() -> None:
    each = [run for m in "abcde" for run in runs(m * 30, [0.9], data_digest=None)]
    title = contents(replace(compared(each), experiment="Default")).title
    assert title.startswith("Comparison of aaaa")
    assert title.endswith(" and 2 more")
    assert len(title) < 110


def test_what_decides_comes_first_in_the_table() -> None:
    latency = str(keys.LATENCY_P50)
    made = comparisons.comparison()
    made = replace(made, best=replace(made.best, cost=latency))
    heads = [column.title for column in contents(made).results.columns]
    assert heads[:4] == ["Model", "Test Accuracy", "Latency (median) (ms)", "Trainable Parameters"]


@pytest.mark.thorough
def test_each_verdict_is_said_once() -> None:
    """In the first lines, or as figures of a table; in words only where figures do not do."""
    made = comparisons.comparison()
    made = replace(made, fronts=made.fronts[:1])
    accuracy, *costs = made.verdicts
    unclear = replace(accuracy, verdict="not_distinguishable", words="p is small, and yet.")
    untested = replace(costs[0], test="", words="The runs are of two machines.")
    for text in (to_markdown(made), parse(to_html(made)).all("main")[0].text):
        assert not any(markdown(verdict.words) in text for verdict in made.verdicts)
        assert markdown(made.headline) not in text.partition("## Results")[2]
    text = to_markdown(replace(made, verdicts=(unclear, untested)))
    assert "- p is small, and yet." in text
    assert "- The runs are of two machines." in text


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_terminal_is_too_narrow_for_a_figure(width: int) -> None:
    text = on_terminal(comparisons.comparison(), width)
    for row in contents(comparisons.comparison()).results.rows:
        for cell in row[1:]:
            assert cell.text in text


def test_a_figure_of_any_length_is_whole() -> None:
    huge = 123_456_789_012_345.0
    made = comparisons.group("cnn")
    statistic = Statistic(5, huge, 0.0, huge, huge, (huge,) * 5)
    made = replace(made, metrics={**made.metrics, keys.FLOPS_INFERENCE: statistic})
    assert "123,456,789,012,345" in on_terminal(comparisons.comparison(made))


def test_the_terminal_shows_names_as_they_are() -> None:
    text = on_terminal(comparisons.hostile())
    assert "A <script>alert(1)</script>, 5 runs" in text
    assert "B [red]x[/red] *a* `b` | c, 5 runs" in text
    assert r"D p$^$\x1b[31m\n&lt;b&gt;, 5 runs" in text


def test_markdown_has_every_section() -> None:
    heads = re.findall(r"^## (.*)$", to_markdown(comparisons.comparison()), re.MULTILINE)
    assert heads == [
        *("Results", "Warnings", "Accuracy against cost", "Learning curves"),
        *("Cost to reach a target", "Classes", "Wrong examples", "Rules of thumb"),
        *("Questions and answers", "Statistics", "All metrics", "Skipped runs", "Repeat it"),
    ]


@pytest.mark.parametrize("make", CASES)
def test_markdown_tables_have_as_many_cells_as_heads(make: Callable[[], Comparison]) -> None:
    heads = 0
    for before, line in pairwise(to_markdown(make()).splitlines()):
        if line.startswith("|---"):
            heads = len(cells_of(before))
        if line.startswith("|") and heads:
            assert len(cells_of(line)) == heads, line
        else:
            heads = 0


def cells_of(line: str) -> list[str]:
    return re.split(r"(?<!\\)\|", line)[1:-1]


def test_markdown_escapes_names() -> None:
    text = to_markdown(comparisons.hostile())
    outside_code = re.sub(r"^    .*$", "", text, flags=re.MULTILINE)
    assert not re.search(r"(?<!\\)<", outside_code)
    assert r"\[red\]x\[/red\] \*a\* \`b\` \| c" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cnn", "cnn"),
        ("0.8904 ± 0.0021", "0.8904 ± 0.0021"),
        ("-0.5", "-0.5"),
        ("# no heading", r"\# no heading"),
        ("1. no list", r"1\. no list"),
        ("- no list", r"\- no list"),
        ("p < 0.05", "p < 0.05"),  # MLflow's pages would show a backslash there
        ("</b> and <", r"\</b\> and \<"),
        ("a\n| b", r"a\\n\| b"),
        ("<b>*x*</b> &amp; [y](z)", r"\<b\>\*x\*\</b\> \&amp; \[y\](z)"),
    ],
)
def test_markdown_of_a_text(text: str, shown: str) -> None:
    assert markdown(text) == shown


def test_what_cannot_be_seen_is_spelt_out() -> None:
    assert printable("a\tb\x00\u202e\ud800 ü 中") == "a\\tb\\x00\\u202e\\ud800 ü 中"


def test_csv_holds_every_group_and_every_digit() -> None:
    comparison = comparisons.many(groups=50)
    rows = list(csv.DictReader(io.StringIO(to_csv(comparison))))
    assert len(rows) == 50
    assert list(rows[0])[:7] == ["Model", *notebook_columns(DEFAULT)]
    for row, group in zip(rows, comparison.groups, strict=True):
        accuracy = group.metrics[keys.TEST_ACCURACY]
        assert row["Model"] == group.name
        assert float(row["Test Accuracy"]) == accuracy.mean
        assert float(row["test_accuracy mean"]) == accuracy.mean
        assert row["test_accuracy sd"] == ("" if accuracy.sd is None else repr(accuracy.sd))
        assert row["params.epochs"] == "5"


def test_csv_of_hostile_names_holds_no_formula() -> None:
    rows = list(csv.reader(io.StringIO(to_csv(comparisons.hostile()))))
    assert [row[0] for row in rows[1:4]] == [
        comparisons.HOSTILE,
        "[red]x[/red] *a* `b` | c",
        "'=1+1",
    ]


def tokens(text: str) -> Iterator[Token]:
    """What a reader of Markdown sees, tables and all."""
    waiting = MarkdownIt("commonmark").enable("table").parse(text)
    while waiting:
        token = waiting.pop()
        yield token
        waiting += token.children or []


def test_text_of_runs_makes_no_markup_anywhere() -> None:
    text = to_markdown(spoilt(comparisons.comparison()))
    assert "FORGED" in text
    links = [each for each in tokens(text) if each.type == "link_open"]
    assert all(str(each.attrs["href"]).startswith("#") for each in links)
    assert {"image", "html_block", "html_inline"}.isdisjoint(each.type for each in tokens(text))
    assert all(line.isprintable() and not line.startswith("FORGED") for line in text.split("\n"))


@pytest.mark.parametrize(
    "text",
    [
        *(HOSTILE, "# x", "~~~", "===", "---", "> q", "    code", "|a|", "<!-- x", "<http://x>"),
        *("[a]: http://x", "1) x", "- x", "a  ", "a\\", "&lt;", "![a](b)", "http://a.b", "***"),
    ],
)
def test_a_text_is_a_paragraph_of_text(text: str) -> None:
    types = {token.type for token in tokens(markdown(text))}
    assert types == {"paragraph_open", "inline", "text", "paragraph_close"}


@pytest.mark.parametrize("text", ["a", "a`b", "`", "```", "` x", "a``b`"])
def test_code_is_whole(text: str) -> None:
    (code,) = (each for each in tokens(f"x {code_span(text)} y") if each.type == "code_inline")
    assert code.content == text


@pytest.mark.parametrize(
    ("text", "field"),
    [
        *(("cnn", "cnn"), ("-0.5", "-0.5"), ("+1e5", "+1e5"), ("-inf", "-inf")),
        *((f"{start}a", f"'{start}a") for start in "=+-@\uff1d\uff0b\uff0d\uff20"),
        *((" =1", "' =1"), ("\t=1", r"\t=1"), ("\r=1", r"\r=1"), ("a;=1", "a;'=1")),
        ("-1+cmd|' /C calc'!A0", "'-1+cmd|' /C calc'!A0"),
    ],
)
def test_csv_of_a_text(text: str, field: str) -> None:
    assert csv_field(text) == field


def test_csv_holds_no_formula_anywhere() -> None:
    table = to_csv(spoilt(comparisons.comparison()))
    fields = [field for row in csv.reader(io.StringIO(table)) for field in row]
    assert any("FORGED" in field for field in fields)
    assert all(field.isprintable() and field == csv_field(field) for field in fields)


@pytest.mark.thorough
@pytest.mark.parametrize("models", [3, 7])  # whose curves lie over one another, and apart
def test_a_metric_is_text_of_others_in_every_form(models: int) -> None:
    made = comparisons.by_error(HOSTILE[:250], models)
    stream = io.StringIO()
    files = {str(keys.REPORT_HTML_FILE): "report.html"}
    result = CompareResult("c" * 32, "1", "sqlite:///m.db", "a", files, made)
    print_compare_result(SafeConsole(file=stream, width=4000, force_terminal=True), result)
    assert "FORGED" in stream.getvalue()
    check_terminal(stream.getvalue())
    text = to_markdown(made)
    assert {"image", "html_block", "html_inline"}.isdisjoint(each.type for each in tokens(text))
    assert all(line.isprintable() and not line.startswith("FORGED") for line in text.split("\n"))
    table = list(csv.reader(io.StringIO(to_csv(made))))
    assert all(field.isprintable() and field == csv_field(field) for row in table for field in row)
    html = to_html(made)
    assert {character for character in html if not character.isprintable()} == {"\n"}
    assert html.count("<script") == 1  # the report's own


def test_an_error_stands_where_the_accuracy_would() -> None:
    made = comparisons.by_error()
    report = contents(made)
    heads = ["Model", "test_mae", "FLOPs (Inference)", "Trainable Parameters"]
    assert [column.title for column in report.results.columns] == heads
    assert report.trade_offs == "test_mae against cost"
    assert report.targets.title == "Cost to first reach mae of 1.400 in validation"
    assert [column.title for column in report.last_epochs.columns][3:] == [
        *("Validation mae", "Training mae"),
    ]
    (_, table), _ = report.evidence
    assert table.title == "test_mae"
    assert table.rows[0][2].text == "-0.2500"  # not in points
    compared_by = dict(report.decision)["Compared by"]
    assert compared_by == (
        "test_mae, the last value that each run logged; less is better, as was asked for"
    )
    text = to_markdown(made)
    heads = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert "Classes" not in heads
    assert "Rules of thumb" not in heads
    assert not re.search("accura", text.replace("more accurate", ""), re.IGNORECASE)
    (first, *_) = csv.DictReader(io.StringIO(to_csv(made)))
    assert float(first["test_mae"]) == pytest.approx(1.02)
    assert "Compared by: test_mae" in on_terminal(made)


@pytest.mark.thorough
def test_the_plot_says_which_way_is_better() -> None:
    (plot, *_) = trade_offs(comparisons.by_error())
    assert "test_mae (↓ better)" in plot.svg
    assert plot.caption == "test_mae against FLOPs per prediction"
    made = comparisons.comparison()
    (plot,) = trade_offs(replace(made, fronts=made.fronts[:1]))
    assert "better" not in plot.svg


def test_csv_leaves_empty_what_was_not_measured() -> None:
    (row,) = csv.DictReader(io.StringIO(to_csv(comparisons.bare())))
    assert row["FLOPs (Inference)"] == ""
    assert row["test_accuracy sd"] == ""
    assert row["test_accuracy n"] == "1"


def test_verdicts_of_single_models_and_of_counts() -> None:
    made = comparisons.comparison()
    accuracy, flops, *_ = made.verdicts
    single = replace(accuracy, counts=(115, 85), probability_of_improvement=None)
    exact = replace(
        flops, p_value=None, p_unadjusted=None, ci_low=972384.0, ci_high=972384.0, test="count"
    )
    many = replace(made, verdicts=(single, exact))
    (_, about_accuracy), (_, about_costs) = evidence(many, Groups(many))
    heads = [column.title for column in about_accuracy.columns]
    cells = dict(zip(heads, (cell.text for cell in about_accuracy.rows[0]), strict=True))
    assert (cells["Only A right"], cells["Only B right"]) == ("115", "85")
    assert cells["A better in"] == "none"
    costs = [cell.text for cell in about_costs.rows[0]]
    assert "exact" in costs
    assert "none" in costs


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (keys.TEST_ACCURACY, 0.01852, "+1.85 points"),
        (keys.TEST_ACCURACY, -0.00001, "0.00 points"),
        (keys.FLOPS_INFERENCE, -972384.0, "-972,384"),
        (keys.LATENCY_P50, 0.13, "+0.13 ms"),
        (keys.MEMORY_PEAK, 1234.5, "+1,234 MiB"),
    ],
)
def test_a_difference_has_sign_and_unit(name: str, value: float, text: str) -> None:
    assert difference(name, value) == text
