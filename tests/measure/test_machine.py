"""What a run was measured on."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import psutil
import pytest

from fm_mlflow import keys
from fm_mlflow.measure.machine import _cpu_name, describe_machine, load_average
from fm_mlflow.measure.measurement import to_json


def test_machine_is_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    machine = describe_machine(load=1.25)
    assert machine.cpu
    assert machine.logical_cores == os.cpu_count()
    assert 1 <= machine.usable_cores <= machine.logical_cores
    assert machine.memory_gib == psutil.virtual_memory().total / 1024**3
    assert machine.tensorflow == metadata.version("tensorflow")
    assert machine.keras == metadata.version("keras")
    assert machine.numpy == metadata.version("numpy")
    assert machine.onednn == "0"
    assert machine.load_average == 1.25
    assert json.loads(to_json([], machine))["machine"]["cpu"] == machine.cpu
    with pytest.raises(dataclasses.FrozenInstanceError):
        machine.cpu = "another"  # type: ignore[misc]


def test_the_tag_holds_every_fact_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    machine = dataclasses.replace(describe_machine(load=1.25), gpus=("Fast", "Fast", "Faster"))
    facts = machine.facts()
    names = {key for key in keys.all_keys() if key.startswith(keys.MACHINE_PREFIX)}
    assert {f"{keys.MACHINE_PREFIX}{name}" for name in facts} == names
    assert all(isinstance(text, str) and text for text in facts.values())
    assert facts["onednn"] == "not set"
    assert facts["gpus"] == "2 x Fast, 1 x Faster"
    assert facts["load"] == "1.25"
    assert f"Python {sys.version.split()[0]}" in facts["versions"]
    ((name, text),) = machine.tags().items()
    assert name == keys.MACHINE
    assert json.loads(text) == facts


def test_load_average_is_the_systems() -> None:
    assert load_average() == pytest.approx(os.getloadavg()[0], abs=2)


def test_load_that_the_system_does_not_tell_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def unobtainable() -> tuple[float, float, float]:
        raise OSError

    monkeypatch.setattr(os, "getloadavg", unobtainable)
    assert load_average() is None
    assert describe_machine().facts()["load"] == "unknown"


def test_cpu_name_is_the_model_where_linux_has_one(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: A Fast One @ 3 GHz\n")
    assert _cpu_name(cpuinfo) == "A Fast One @ 3 GHz"
    cpuinfo.write_text("processor\t: 0\n")
    assert _cpu_name(cpuinfo)
    assert _cpu_name(tmp_path / "nothing")


def test_describing_does_not_load_tensorflow() -> None:
    code = (
        "import sys; from fm_mlflow.measure.machine import describe_machine as d\n"
        "print(d().intra_op_threads, d().facts()['threads'], "
        "'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "None TensorFlow not loaded False"
