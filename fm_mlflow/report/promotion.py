"""A promotion in words, and as a Markdown file for the page of a pipeline."""

from __future__ import annotations

from collections.abc import Iterator

from fm_mlflow import keys
from fm_mlflow.analysis.costs import cost_title
from fm_mlflow.analysis.prose.words import capitalised, counted, in_row
from fm_mlflow.analysis.records import DataSet
from fm_mlflow.escaping import markdown
from fm_mlflow.process.redaction import one_line
from fm_mlflow.results.register import GateError, Registration
from fm_mlflow.settings.registered import CHAMPION, PREVIOUS

_TITLES = {
    "registered": "Promoted",
    "moved": "Promoted",
    "unchanged": "The champion already",
    "dry run": "May be promoted",
    "refused": "Not promoted",
}


def to_summary(registration: Registration | None, error: BaseException | None) -> str:
    """Return what became of a promotion as Markdown.

    It names the model beside the champion, each gate, and what a refused model would pass with.

    Args:
        registration: What was checked, as far as it came.
        error: Why the model was refused, or why nothing could be decided.
    """
    from fm_mlflow.report.markdown import environment

    template = environment(markdown).get_template("promotion.md")
    if registration is None:
        title = "Not promoted" if isinstance(error, GateError) else "Not decided"
        said = "" if error is None else one_line(error)
        return template.render(title=title, outcome=said, rows=())
    outcome = f"{capitalised(outcome_sentence(registration))}."
    if error is not None and not registration.failures:  # no gate or check says why
        outcome += f" {capitalised(one_line(error))}."
    checks = registration.checks
    compared = [check for check in checks if check.passed is not None]
    passed = sum(check.passed is True for check in compared)
    return template.render(
        title=f"{_TITLES[registration.outcome]}: {registration.run_name}",
        outcome=outcome,
        rows=tuple(_side_by_side(registration)),
        result=registration,
        others=capitalised(registration.others),
        found_again=f"{passed} of {counted(len(compared), 'figure')} of the run were found again "
        "in its logged model, in a fresh process",
        failed_checks=registration.failed_checks,
    )


def _side_by_side(result: Registration) -> Iterator[tuple[str, ...]]:
    """Yield a row for the head and each figure: the model, and the champion where there is one."""
    champion = result.against
    rows = [("", "this model"), ("model", result.run_name), ("run", result.run_id)]
    names = [*result.figures, *(champion.figures if champion else ())]
    titles = {keys.TEST_ACCURACY: "test accuracy"}
    for name in dict.fromkeys(names):
        title = titles.get(name) or cost_title(name)
        rows.append((title, in_row(name, result.figures.get(name))))
    if champion is None:
        yield from rows
        return
    theirs = [
        f"{CHAMPION}, version {champion.version}",
        champion.model or "not recorded",
        champion.run_id or "not recorded",
        *(in_row(name, champion.figures.get(name)) for name in dict.fromkeys(names)),
    ]
    for row, cell in zip(rows, theirs, strict=True):
        yield (*row, cell)


def outcome_sentence(result: Registration) -> str:
    """Return what was done, or would have been, without a full stop."""
    data = DataSet(result.dataset or "", result.dataset_digest)
    name = f"{result.name}, on {data},"
    match result.outcome:
        case "registered":
            text = f"version {result.version} of {name} is registered and is the {CHAMPION}"
        case "moved":
            text = f"{name} has this model as version {result.version}, now the {CHAMPION}"
        case "unchanged":
            return f"version {result.version} of {name} is this model and the {CHAMPION} already"
        case "dry run":
            new = result.version is None
            action = "register it as a new version" if new else f"make version {result.version}"
            text = f"dry run: nothing was changed; it would {action} and {CHAMPION} of {name}"
            return text.rstrip(",")
        case _:
            return f"refused: nothing was changed in {name}".rstrip(",")
    kept = f"; version {result.previous} is kept as {PREVIOUS}" if result.previous else ""
    return text + kept
