"""matplotlib figures as SVG to stand in a page: in its colours and its font, accessible.

matplotlib draws with placeholder colours, which then become CSS variables (`--series-0`,
`--rule`, …) and `currentColor`: one picture is readable on light, on dark and on paper.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure

from fm_mlflow.escaping import printable
from fm_mlflow.report.drawing import lay_out

SERIES = 7
"""Colours of series; the page's style sheet defines as many."""

INK, RULE, PAGE, FAINT = "#000001", "#000002", "#000003", "#000004"
"""Placeholders: text and axes, grid, the page's background, what is in the background."""

_VARIABLES = {
    INK: "currentColor",
    RULE: "var(--rule)",
    PAGE: "var(--page)",
    FAINT: "var(--faint)",
    **{f"#0000{16 + i:02x}": f"var(--series-{i})" for i in range(SERIES)},
}

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fm_mlflow",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.formatter.useoffset": False,
}

_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}"
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
_FONT = re.compile(r"font: ([\d.]+px) [^;]*|font-family: [^;]*;?")


def series_colour(position: int) -> str:
    """Return the placeholder for a series' colour."""
    return f"#0000{16 + position % SERIES:02x}"


@contextmanager
def style() -> Iterator[None]:
    """Draw in the report's style, whatever the user's matplotlib is set to."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


@dataclass(frozen=True)
class Dot:
    """A point of a plot, in its axes' units, and what a reader who points at it is told."""

    x: float
    y: float
    text: str


def to_svg(
    figure: Figure, name: str, title: str = "", description: str = "", dots: Iterable[Dot] = ()
) -> str:
    """Return a figure as an SVG element for HTML, the same bytes for the same figure.

    Args:
        figure: Drawn under `style`.
        name: Unique in the page; made of letters, digits and dashes.
        title: What the picture is. Without one it is decoration, hidden from screen readers.
        description: What it shows, for readers who cannot see it.
        dots: Points that tell their values, of the figure's first axes.
    """
    drawn = io.StringIO()
    lay_out(figure)
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(drawn.getvalue())
    # The style element would apply to the whole page; the metadata only name matplotlib.
    unwanted = (f"{_SVG}style", f"{_SVG}metadata")
    for parent in list(root.iter()):
        for child in [each for each in parent if each.tag in unwanted]:
            parent.remove(child)
    _rename_ids(root, name)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.tail = None
        if element.tag != "text":
            element.text = None
        if "style" in element.attrib:
            element.set("style", _restyled(element.attrib["style"]))
    for size in ("width", "height", "version"):
        del root.attrib[size]
    root.set("class", "plot")
    if not title:
        root.set("aria-hidden", "true")
        return ElementTree.tostring(root, encoding="unicode")
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-desc")
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        element.text = printable(text)
        root.insert(position, element)
    root.extend(_circles(figure, dots))
    return ElementTree.tostring(root, encoding="unicode")


def _circles(figure: Figure, dots: Iterable[Dot]) -> Iterator[ElementTree.Element]:
    """Yield an invisible circle for each dot that is in the picture."""
    for dot in dots:
        x, y = figure.axes[0].transData.transform((dot.x, dot.y))
        if math.isfinite(x) and math.isfinite(y):
            places = {"cx": f"{x:.1f}", "cy": f"{figure.bbox.height - y:.1f}", "r": "6"}
            circle = ElementTree.Element("circle", {"class": "dot", "fill": "none", **places})
            ElementTree.SubElement(circle, "title").text = printable(dot.text)
            yield circle


def _rename_ids(root: ElementTree.Element, name: str) -> None:
    """Make ids unique in the page, and drop those that nothing refers to."""
    used = set()
    for element in root.iter():
        for attribute, value in list(element.attrib.items()):
            if attribute == f"{_XLINK}href":
                used.add(value.removeprefix("#"))
                del element.attrib[attribute]
                element.set("href", f"#{name}-{value.removeprefix('#')}")
            elif match := _REFERENCE.search(value):
                used.add(match[1])
                element.set(attribute, _REFERENCE.sub(rf"url(#{name}-\1)", value))
    for element in root.iter():
        identifier = element.attrib.pop("id", "")
        if identifier in used:
            element.set("id", f"{name}-{identifier}")


def _restyled(style: str) -> str:
    style = _FONT.sub(lambda match: f"font-size: {match[1]}" if match[1] else "", style)
    for stand_in, variable in _VARIABLES.items():
        style = style.replace(stand_in, variable)
    return style.strip()
