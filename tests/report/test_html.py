"""The page: sound, whole, safe, accessible, the same bytes, and no figure from nowhere."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Comparison
from fm_mlflow.analysis.objective import DEFAULT
from fm_mlflow.report.contents import notebook_columns
from fm_mlflow.report.csv import to_csv
from fm_mlflow.report.figures import ESTIMATED
from fm_mlflow.report.html import to_html
from fm_mlflow.report.markdown import to_markdown
from tests.hostile import HOSTILE, spoilt
from tests.processes import PROJECT
from tests.report import comparisons
from tests.report.page import Element, parse

SECTIONS = [
    *("results", "warnings", "trade-offs", "curves", "target", "classes", "wrong", "estimates"),
    *("questions", "statistics", "metrics", "skipped", "repeat"),
]


def troubled() -> Comparison:
    """A training that diverged, a cost that was not measured, more classes than a matrix shows."""
    cnn = comparisons.group("cnn")
    curves = tuple(
        {**each, keys.VAL_LOSS: [(1, 0.5), (2, math.nan), (3, math.inf)]} for each in cnn.curves
    )
    metrics = {name: each for name, each in cnn.metrics.items() if name != keys.MEMORY_TRAINING}
    metrics[str(keys.TEST_LOSS)] = comparisons.statistic([math.nan, math.inf])
    missing = {str(keys.MEMORY_TRAINING): "another training was in this process before"}
    cnn = replace(cnn, curves=curves, metrics=metrics, missing=missing)
    made = comparisons.comparison(cnn, comparisons.group("mlp", "mlp"))
    by_class = tuple(comparisons.by_class(each.model, classes=100) for each in made.by_class)
    return replace(made, class_names=tuple(f"class {i}" for i in range(100)), by_class=by_class)


CASES: dict[str, Callable[[], Comparison]] = {
    "usual": comparisons.comparison,
    "bare": comparisons.bare,
    "empty": comparisons.empty,
    "hostile": comparisons.hostile,
    "spoilt": lambda: spoilt(comparisons.comparison()),
    "many": comparisons.many,
    "one seed": lambda: comparisons.comparison(
        comparisons.group("cnn", seeds=1), comparisons.group("mlp", "mlp", seeds=1)
    ),
    "one model": lambda: comparisons.comparison(comparisons.group("cnn")),
    "troubled": troubled,
    "by error": comparisons.by_error,
    "by a metric of others": lambda: comparisons.by_error(HOSTILE[:250], 7),
}
NOT_OF_ERRORS = ("estimates", "classes", "wrong")


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: to_html(make()) for name, make in CASES.items()}


@pytest.fixture(scope="module")
def parsed(pages: dict[str, str]) -> dict[str, Element]:
    return {name: parse(html) for name, html in pages.items()}


@pytest.fixture(params=CASES)
def page(request: pytest.FixtureRequest, parsed: dict[str, Element]) -> Element:
    return parsed[request.param]


@pytest.fixture
def usual(parsed: dict[str, Element]) -> Element:
    return parsed["usual"]


def test_every_page_has_every_section_in_order(page: Element) -> None:
    (main,) = page.all("main")
    sections = [section.attributes["id"] for section in main.all("section")]
    is_of_accuracy = "Accuracy against cost" in main.text
    left_out = {*([] if is_of_accuracy else NOT_OF_ERRORS)}
    if not page.all("header")[0].all("a", href="#warnings"):
        left_out.add("warnings")
    assert sections == [s for s in SECTIONS if s not in left_out]
    for section in main.all("section"):
        assert len(section.text) > len(section.all("h2")[0].text), "an empty section"


def test_every_link_leads_somewhere_and_every_id_is_unique(page: Element) -> None:
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in page.all():
        for name, value in element.attributes.items():
            if name in ("href", "aria-labelledby"):
                for target in value.split():
                    assert target.removeprefix("#") in ids
            if match := re.search(r"url\(#(.*?)\)", value):
                assert match[1] in ids


def test_nothing_is_loaded_and_only_its_own_script_runs(page: Element) -> None:
    for element in page.all():
        assert element.tag not in ("link", "iframe", "object", "base", "form")
        assert not any(name.startswith("on") for name in element.attributes)
        assert "src" not in element.attributes or element.tag == "img"
        assert element.attributes.get("src", "data:image/png;base64,").startswith("data:image/png;")
        assert element.attributes.get("href", "#").startswith("#")
    assert "@import" not in page.all("style")[0].text
    assert "url(" not in page.all("style")[0].text
    (script,) = page.all("script")
    digest = hashlib.sha256("".join(script.own_text).encode()).digest()
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy.attributes["content"] == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src "
        f"'sha256-{base64.b64encode(digest).decode()}'; base-uri 'none'; form-action 'none'"
    )


def test_names_are_shown_not_run(pages: dict[str, str]) -> None:
    html = pages["hostile"]
    assert html.count("<script") == 1
    assert "\x1b" not in html
    page = parse(html)
    assert comparisons.HOSTILE in page.all("h1")[0].text
    assert r"p$^$\x1b[31m\n&lt;b&gt;" in page.text
    # In the pictures too: as their descriptions, and what their points tell.
    assert any(comparisons.HOSTILE in each.text for each in page.all("desc"))
    assert any(comparisons.HOSTILE in each.text for each in page.all("circle", class_="dot"))


def test_no_text_hides_anything_or_turns_the_text_after_it(pages: dict[str, str]) -> None:
    html = pages["spoilt"]
    assert html.count("FORGED") > 100
    assert {character for character in html if not character.isprintable()} == {"\n"}
    assert all(not line.startswith("FORGED") for line in html.split("\n"))


def test_tables_are_told_apart_by_who_cannot_see_them(page: Element) -> None:
    for table in page.all("table"):
        region = table.parent
        assert region is not None
        assert region.attributes["role"] == "region"
        assert region.attributes["tabindex"] == "0"  # can be scrolled with the keyboard
        assert {"aria-label", "aria-labelledby"} & set(region.attributes)
        columns = table.all("thead")[0].all("th")
        assert all(head.attributes["scope"] == "col" for head in columns)
        for body in table.all("tbody"):
            (head, *_) = body.all("th")
            assert head.attributes["scope"] in ("row", "rowgroup")
            for row in body.all("tr"):
                spanned = not row.all("th")
                assert len(row.all("td")) + len(row.all("th")) + spanned == len(columns)


def test_pictures_are_described_or_hidden(usual: Element) -> None:
    pictures = usual.all("svg")
    assert len(usual.all("figure")) == 4 + 6  # learning curves; fit time is not ranked
    for picture in pictures:
        if picture.inside("figure"):
            assert picture.attributes["role"] == "img"
            assert picture.all("title")[0].text
            assert picture.all("desc")[0].text
        else:
            assert picture.attributes["aria-hidden"] == "true"
        assert "width" not in picture.attributes  # as wide as there is room
    colours = {
        found
        for picture in pictures
        for element in picture.all()
        for found in re.findall(r"(?:fill|stroke): ([^;]+)", element.attributes.get("style", ""))
    }
    assert colours <= {"none", "currentColor", "var(--rule)", "var(--page)", "var(--faint)"} | {
        f"var(--series-{i})" for i in range(7)
    }


def test_colours_have_contrast_in_both_schemes(usual: Element) -> None:
    css = usual.all("style")[0].text
    light, dark = re.findall(r":root \{(.*?)\}", css)[:2]
    for scheme in (light, dark):
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", scheme))
        for name in ("text", "quiet", "link"):
            assert contrast(colours[name], colours["page"]) >= 4.5
        assert contrast(colours["text"], colours["alert"]) >= 4.5
        for i in range(7):
            assert contrast(colours[f"series-{i}"], colours["page"]) >= 3


def contrast(one: str, other: str) -> float:
    """WCAG 2: relative luminances of two colours, the lighter over the darker."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_notebooks_table(usual: Element) -> None:
    (table,) = usual.all("section", id="results")[0].all("table")
    heads = [head.text for head in table.all("thead")[0].all("th")]
    asked_for = list(notebook_columns(DEFAULT))
    assert sorted(heads) == sorted(["Model", *asked_for])
    assert heads[:3] == ["Model", "Test Accuracy", "FLOPs (Inference)"]  # what decides
    first = table.all("tbody")[0]
    assert first.all("th")[0].text == "cnn 5 runs"
    cells = [cell.text for cell in first.all("td")]
    accuracy = comparisons.comparison().groups[0].metrics[keys.TEST_ACCURACY]
    assert accuracy.sd is not None
    assert cells[:2] == [f"{accuracy.mean:.4f} ± {accuracy.sd:.4f}", "1,442,332"]


def test_warnings_are_announced_at_the_top(usual: Element) -> None:
    (header,) = usual.all("header")
    assert header.all("a", href="#warnings")[0].text == "2 warnings"
    assert header.all("a", href="#skipped")[0].text == "2 runs skipped"


def test_why_a_cost_is_missing(parsed: dict[str, Element]) -> None:
    results = parsed["troubled"].all("section", id="results")[0]
    assert [cell.text for cell in results.all("td", class_="missing")] == ["not measured"]
    assert (
        "Training Memory (MiB) of cnn was not measured: another training was in this process "
        "before."
    ) in results.text


def numbers_of(value: Any) -> Iterator[float]:
    """Every number in a comparison, in its sentences too."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, (int, float)):
        yield float(value)
    elif isinstance(value, str):
        yield from numbers_in(value)
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from numbers_of(name)
            yield from numbers_of(each)
    elif dataclasses.is_dataclass(value):
        for attribute in dataclasses.fields(value):
            yield from numbers_of(getattr(value, attribute.name))
    elif isinstance(value, (tuple, list)):
        yield float(len(value))
        for each in value:
            yield from numbers_of(each)


def numbers_in(text: str) -> list[float]:
    return [float(found.replace(",", "")) for found in re.findall(r"\d[\d,]*\.?\d*", text)]


def derived(comparison: Comparison) -> Iterator[float]:
    """Numbers that the report computes itself."""
    yield sum(len(group.runs) for group in comparison.groups)
    for group in comparison.groups:
        for measured, estimate in ESTIMATED.values():
            yield group.metrics[measured].mean / group.metrics[estimate].mean
    for verdict in comparison.verdicts:
        for number in (verdict.difference, verdict.ci_low, verdict.ci_high):
            yield 100 * abs(number or 0)  # percentage points
        yield 100 * (verdict.probability_of_improvement or 0)
    for each in comparison.by_class:
        for row in each.confusion:
            yield from (100 * count / sum(row) for count in row)


def test_every_figure_comes_from_the_comparison(usual: Element) -> None:
    comparison = comparisons.comparison()
    known = sorted({abs(n) for n in (*numbers_of(comparison), *derived(comparison))})
    shown = [cell.text for cell in usual.all("td")]
    assert len(shown) > 300
    for text in shown:
        for found, prefix in re.findall(r"(\d[\d,]*(?:\.\d+)?)(?: ([GT])\b)?", text):
            scale = {"": 1.0, "G": 1e9, "T": 1e12}[prefix]
            rounding = 0.5000001 * 10 ** -len(found.partition(".")[2]) * scale
            value = float(found.replace(",", "")) * scale
            assert any(math.isclose(value, each, abs_tol=rounding) for each in known), (
                f"{found} in {text!r} stands nowhere in the comparison"
            )


HASHED = """
import hashlib
from fm_mlflow.report.html import to_html
from fm_mlflow.report.markdown import to_markdown
from fm_mlflow.report.csv import to_csv
from fm_mlflow.report.files import prepare
from tests.report.comparisons import comparison
prepare()
for render in (to_html, to_markdown, to_csv):
    print(hashlib.sha256(render(comparison()).encode()).hexdigest())
import sys
print({"mlflow", "tensorflow", "keras"} & set(sys.modules))
"""


def test_the_same_bytes_in_another_prepared_process_without_mlflow_or_tensorflow(
    pages: dict[str, str],
) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    done = subprocess.run(
        [sys.executable, "-c", HASHED],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    texts = (pages["usual"], *(form(comparisons.comparison()) for form in (to_markdown, to_csv)))
    here = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    assert done.stdout.splitlines() == [*here, "set()"]


def test_a_users_matplotlib_settings_change_nothing(pages: dict[str, str]) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"axes.grid": False, "font.size": 30, "text.usetex": True}):
        assert to_html(comparisons.comparison()) == pages["usual"]
        assert mpl.rcParams["font.size"] == 30


def test_a_training_that_diverged(parsed: dict[str, Element]) -> None:
    assert "nan" in parsed["troubled"].all("section", id="metrics")[0].text


def test_thousands_of_models(pages: dict[str, str], parsed: dict[str, Element]) -> None:
    assert len(pages["many"]) < 3e6
    page = parsed["many"]
    (table,) = page.all("section", id="results")[0].all("table")
    assert len(table.all("tbody")) == 10
    assert "1,990 more in comparison.csv" in page.text
    skipped = page.all("section", id="skipped")[0]
    assert len(skipped.all("li")) == 3 * (20 + 1)


def test_more_classes_than_a_matrix_can_show(parsed: dict[str, Element]) -> None:
    classes = parsed["troubled"].all("section", id="classes")[0]
    assert classes.all("table", class_="heat") == []
    assert "The 25 hardest; 75 more classes in comparison.json." in classes.text
