"""Where the fresh process imports us from, and that a model must do without it."""

from __future__ import annotations

import site
import sys
from pathlib import Path

import pytest

import fm_mlflow
from fm_mlflow.registration.fresh_process import ROOT, forget_where_we_came_from


def test_the_model_does_not_see_our_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert Path(fm_mlflow.__file__).resolve().parents[1] == ROOT
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(tmp_path)])
    monkeypatch.setattr(sys, "path", ["", str(ROOT), str(tmp_path)])
    forget_where_we_came_from()
    assert sys.path == ["", str(tmp_path)]
