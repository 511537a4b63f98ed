"""A model's files as a hostile store may give them."""

from __future__ import annotations

import py_compile
from pathlib import Path

import pytest

from fm_mlflow.results.register import GateError
from fm_mlflow.tracking.candidate import _interface
from fm_mlflow.tracking.model_files import ModelFiles, fetch_model

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


def test_the_digest_of_what_was_saved_is_of_all_that_loading_reads(tmp_path: Path) -> None:
    """Which logged model it is, MLflow writes later; which code loads it, nobody may."""

    def saved(text: str, requirements: str = "keras") -> str:
        (tmp_path / "MLmodel").write_text(text)
        (tmp_path / "requirements.txt").write_text(requirements)
        return ModelFiles.of(tmp_path).saved_digest

    flavor = "flavors: {python_function: {loader_module: %s}}"
    first = saved(flavor % "mlflow.keras")
    assert saved("run_id: r\nmodel_id: m-1\n" + flavor % "mlflow.keras") == first
    assert saved(flavor % "evil") != first
    assert saved(flavor % "mlflow.keras", "evil") != first


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
