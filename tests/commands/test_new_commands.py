"""Commands that are executed, and do their work in two processes; most tests start copies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fm_mlflow.process.identity import usable_cores
from tests.notes import noting
from tests.simulated import Simulated, log_run
from tests.stores import Store

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or (usable_cores() or 1) < 2, reason="only there"
)


def execute(store: Store, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fm_mlflow", *arguments],
        cwd=store.folder,
        env=store.environment(**changes),
        capture_output=True,
        text=True,
        check=False,
    )


def test_compare_has_its_report_from_a_copy(store: Store, tmp_path: Path) -> None:
    for seed in range(2):
        log_run(store.client, Simulated("mlp", seed, 0.8))
    noted, changes = noting(tmp_path)
    done = execute(store, "compare", **changes)
    assert done.returncode == 0, done.stderr
    assert "popen_fork.py" in noted()
    assert "<svg" in (store.folder / "comparison" / "report.html").read_text()


def test_register_starts_the_models_process_first(store: Store, tmp_path: Path) -> None:
    noted, changes = noting(tmp_path, ends_at="waiting.py")
    assert execute(store, "register", **changes).returncode == os.EX_TEMPFAIL
    assert "waiting.py" in noted()
