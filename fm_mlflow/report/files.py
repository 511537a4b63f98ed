"""The files of a comparison's report, as texts."""

from __future__ import annotations

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Comparison
from fm_mlflow.analysis.to_json import to_json_text
from fm_mlflow.escaping import html as escape_html, markdown as escape_markdown
from fm_mlflow.report import plots, trade_off_plots
from fm_mlflow.report.csv import to_csv
from fm_mlflow.report.html import to_html
from fm_mlflow.report.markdown import environment, to_markdown
from fm_mlflow.report.pictures import Pictures


def prepare() -> None:
    """Do what takes as long as to write a small report, before there is anything to report.

    It imports the libraries, finds the fonts, draws a plot, and compiles the templates.
    """
    plots.prepare()
    trade_off_plots.prepare()
    for escape, template in ((escape_html, "report.html"), (escape_markdown, "report.md")):
        environment(escape).get_template(template)
    environment(escape_html).get_template("macros.html")


def render(comparison: Comparison, pictures: Pictures) -> dict[str, str]:
    """Return the text of each file, by name: the same for the same comparison and pictures."""
    return {
        keys.REPORT_HTML_FILE: to_html(comparison, pictures),
        keys.REPORT_MARKDOWN_FILE: to_markdown(comparison),
        keys.COMPARISON_CSV_FILE: to_csv(comparison),
        keys.COMPARISON_JSON_FILE: to_json_text(comparison),
    }
