"""What a power cut leaves of a run's journal is delivered: a sample of `benchmarks.power_cuts`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.power_cuts import campaign

pytestmark = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace, which records, is not on this machine"
)


def test_a_sample_of_what_a_cut_leaves(store_template: Path, tmp_path: Path) -> None:
    row = campaign("logged", tmp_path, store_template, seed=1, limit=12)
    assert row.wrong == []
    assert 6 <= row.states <= 12
