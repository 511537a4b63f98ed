"""Processes that import their libraries before they are called."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fm_mlflow.process.confined import ConfinedError, Limits, run_confined, start_ahead
from tests.processes import is_running

LIMITS = Limits(seconds=60, memory=1024**3, file_size=1024**2, answer=1024**2)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there")

LOOK = """
import json, os, sys
print(json.dumps({
    "imported": "colorsys" in sys.modules, "secret": os.environ.get("SECRET_OF_THE_ORIGINAL"),
    "more": os.environ["MORE"], "folder": os.getcwd(), "path": sys.path[0],
    "home": os.path.expanduser("~"), "arguments": sys.argv[1:],
}))
"""


def test_it_is_confined_as_a_new_process_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_ORIGINAL", "hunter2")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "early.py").write_text("def prepare():\n    import colorsys\n")
    (tmp_path / "look.py").write_text(LOOK)
    folder = tmp_path / "confined"
    folder.mkdir()
    variables = {"MORE": "yes"}
    with start_ahead("early:prepare", folder, variables) as ready:
        program = str(tmp_path / "look.py")
        answer = run_confined(program, ["one"], folder, LIMITS, variables, None, ready)
    assert json.loads(answer) == {
        "imported": True,
        "secret": None,
        "more": "yes",
        "folder": str(folder / "work"),
        "path": str(folder / "work"),
        "home": str(folder / "home"),
        "arguments": ["one"],
    }
    assert not is_running(ready.pid)


def test_it_ends_where_nobody_calls_it(tmp_path: Path) -> None:
    with start_ahead("signal:pause", tmp_path) as ready:
        assert is_running(ready.pid)
    assert not is_running(ready.pid)


def test_what_cannot_be_imported_is_told_when_it_is_called(tmp_path: Path) -> None:
    with (
        start_ahead("there.is:none", tmp_path) as ready,
        pytest.raises(ConfinedError, match="No module named 'there'"),
    ):
        run_confined("signal", [], tmp_path, LIMITS, None, None, ready)
