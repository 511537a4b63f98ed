"""What `doctor` says of places where a training can work, and where it cannot."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from fm_mlflow import doctor
from fm_mlflow.measure.machine import processor_features
from tests.processes import command_in_this_process
from tests.stores import Store, active_store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(tmp_path / "journal"))
    return tmp_path


def test_a_new_folder_is_fine_and_stays_as_it_is(
    folder: Path,
) -> None:
    with active_store(Store(f"sqlite:///{folder}/mlflow.db", folder)):
        code, out, _ = command_in_this_process("doctor")
    assert code == 0
    assert "not there yet; the first run makes it" in " ".join(out.split())
    assert "nothing is pending" in out
    assert list(folder.iterdir()) == []


def test_a_store_that_answers(store: Store) -> None:
    states = {each.what: (each.state, each.found) for each in doctor().findings}
    state, found = states["tracking store"]
    assert state == "ok"
    assert found.endswith(": answers")
    assert states["Python"][0] == states["packages"][0] == states["TensorFlow"][0] == "ok"


def test_what_is_wrong_is_named_and_ends_with_1(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: "1.25.0" if name == "numpy" else version(name)
    )
    with active_store(Store("http://127.0.0.1:9", folder)):
        code, out, err = command_in_this_process("doctor")
    assert code == 1
    assert err.endswith("fm-mlflow: to be put right first: tracking store\n")
    assert "1.25.0; tested with <3,>=2.2" in out
    assert list(folder.iterdir()) == []


def test_features_are_those_that_linux_names(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name : x\nflags\t\t: fpu avx2 fma avx512f_not amx_bf16\n")
    assert processor_features(cpuinfo) == ("avx2", "fma", "amx_bf16")
    cpuinfo.write_text("Features : fp asimd sve\n")
    assert processor_features(cpuinfo) == ("asimd", "sve")
    assert processor_features(tmp_path / "missing") == ()
