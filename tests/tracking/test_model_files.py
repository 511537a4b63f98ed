"""A model's files as a hostile store may give them."""

from __future__ import annotations

import py_compile
from pathlib import Path

import pytest

from fm_mlflow.results.register import GateError
from fm_mlflow.tracking.candidate import _interface
from fm_mlflow.tracking.model_files import fetch_model

COLUMN = (
    r"""{signature: {inputs: '[{"type": "tensor", "tensor-spec": {"shape": [-1, %s]}}]'}, %s}"""
)


@pytest.mark.parametrize("mode", py_compile.PycInvalidationMode)
def test_compiled_python_is_left_behind_or_refused(
    tmp_path: Path, mode: py_compile.PycInvalidationMode
) -> None:
    stored = tmp_path / "stored"
    stored.mkdir()
    (stored / "mine.py").write_text("x = 1")
    py_compile.compile(str(stored / "mine.py"), doraise=True, invalidation_mode=mode)
    if mode is not py_compile.PycInvalidationMode.TIMESTAMP:
        with pytest.raises(OSError, match="is compiled Python that no import made"):
            fetch_model(str(stored), tmp_path / "fetched")
        return
    fetched = fetch_model(str(stored), tmp_path / "fetched")
    assert [path.name for path in fetched.rglob("*")] == ["mine.py"]


@pytest.mark.parametrize(
    ("shape", "more", "reason"),
    [
        ("1e999", "a: 1", "cannot convert float infinity"),
        ("28", "a: &a [x], metadata: {class_names: [*a, *a]}", "it has aliases"),
        ("28", "a: " + "[" * 9000, "is damaged|is not YAML"),
    ],
)
def test_a_hostile_description_is_refused_in_words(
    tmp_path: Path, shape: str, more: str, reason: str
) -> None:
    (tmp_path / "MLmodel").write_text(COLUMN % (shape, more))
    with pytest.raises(GateError, match=reason):
        _interface(tmp_path / "MLmodel")
