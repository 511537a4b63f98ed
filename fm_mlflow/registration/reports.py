"""The files that a pipeline reads of a promotion, whichever way it ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from fm_mlflow.errors import FmMlflowError, InputError
from fm_mlflow.process.atomic_file import atomic_file
from fm_mlflow.process.redaction import one_line
from fm_mlflow.report.junit import to_junit
from fm_mlflow.report.promotion import outcome_sentence, to_summary
from fm_mlflow.results.register import Registration

FORMS: Mapping[str, Callable[[Registration | None, BaseException | None], str]] = {
    "junit": to_junit,
    "summary": to_summary,
}
"""What is written, by the setting that names its file."""


@contextmanager
def reported(settings: Mapping[str, object]) -> Iterator[Callable[[Registration], None]]:
    """Give the function that writes the files, and write them where the block raises.

    Args:
        settings: As they were given: they may be what is refused.

    Raises:
        InputError: A file cannot be written where it is to lie.
    """
    given = {name: str(settings[name]) for name in FORMS if settings.get(name)}
    files = {name: Path(text) for name, text in given.items() if text.strip()}
    is_over = False

    def report(registration: Registration) -> None:
        nonlocal is_over
        is_over = True  # what fails from here on takes nothing back
        _write_result(files, registration)

    try:
        if len(set(map(_place, files.values()))) < len(files):  # one would be lost
            first, second = files
            raise InputError(second, str(files[second]), f"another file than that of {first}")
        for name, path in files.items():
            if not _can_be_file(path):
                raise InputError(name, str(path), "a file in an existing folder")
        yield report
    except (Exception, KeyboardInterrupt) as error:
        if not is_over:
            write_refusal(files, error)
        raise


def write_refusal(files: Mapping[str, Path], error: BaseException) -> None:
    """Write why nothing was promoted, as far as the files can be written.

    Args:
        files: By the setting that names each.
        error: What the caller is told in any case.
    """
    registration = getattr(error, "registration", None)
    in_order = [(name, files[name]) for name in reversed(tuple(FORMS)) if name in files]
    of_each = {_place(path): (name, path) for name, path in in_order}
    for name, path in of_each.values():  # of two in one file the first form
        with suppress(OSError, ValueError):  # the error itself says what is wrong
            _write(path, FORMS[name](registration, error))


def _place(path: Path) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # no path at all
        return str(path)


def _can_be_file(path: Path) -> bool:
    try:
        return not path.is_dir() and path.parent.is_dir()
    except OSError:  # too long, a folder that may not be looked into
        return False


def _write_result(files: Mapping[str, Path], registration: Registration) -> None:
    failures = []
    for name, path in files.items():
        try:
            _write(path, FORMS[name](registration, None))
        except OSError as error:
            failures.append(f"{path} cannot be written: {one_line(error)}")
    if failures:
        raise FmMlflowError(f"{outcome_sentence(registration)}; but {'; '.join(failures)}")


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
