"""What a run was measured on: figures of two runs compare only if this is the same."""

from __future__ import annotations

import json
import os
import platform
import re
from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from fm_mlflow import keys
from fm_mlflow.measure.frameworks import loaded_framework
from fm_mlflow.process.identity import usable_cores
from fm_mlflow.process.quiet import ONEDNN

_CPUINFO = Path("/proc/cpuinfo")
_GIB = 1024**3
_FEATURES = (
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"),
    *("asimd", "sve"),
)
"""Flags of Linux for instructions that kernels of TensorFlow use: x86, then ARM."""


@dataclass(frozen=True)
class Machine:
    """A machine and the settings that decide how fast it computes.

    Attributes:
        cpu: Processor, as the system names it.
        logical_cores: Of the machine.
        usable_cores: That this process may be scheduled on; a container's quota is not in it.
        memory_gib: Physical memory, in GiB.
        intra_op_threads: The backend's threads within an operation; 0 lets it choose, None where
            it is not loaded or does not tell them.
        inter_op_threads: The backend's threads between operations, likewise.
        gpus: The model of each GPU that the backend sees; None where it is not loaded.
        python, tensorflow, keras, numpy: Versions; None where it is not installed.
        onednn: Value of TF_ENABLE_ONEDNN_OPTS; None where unset: TensorFlow's own choice.
        system: Operating system and architecture.
        backend, backend_version: What Keras computes with; TensorFlow where Keras is not loaded.
        load_average: Processes running or waiting over the minute before; None where unknown.
    """

    cpu: str
    logical_cores: int
    usable_cores: int
    memory_gib: float
    intra_op_threads: int | None
    inter_op_threads: int | None
    gpus: tuple[str, ...] | None
    python: str
    tensorflow: str | None
    keras: str | None
    numpy: str | None
    onednn: str | None
    system: str
    backend: str
    backend_version: str | None
    load_average: float | None

    def tags(self) -> dict[str, str]:
        """Return the tag of a run: JSON, all facts in it."""
        return {keys.MACHINE: json.dumps(self.facts(), ensure_ascii=False)}

    def facts(self) -> dict[str, str]:
        """Return what decides whether costs can be compared, as texts by short name."""
        threads = f"{self.backend} not loaded"
        if self.gpus is not None:
            threads = f"not told by {self.backend}"
        if self.intra_op_threads is not None:
            within, between = self.intra_op_threads, self.inter_op_threads
            threads = f"{within or 'automatic'} within, {between or 'automatic'} between"
        load = "unknown" if self.load_average is None else f"{self.load_average:.2f}"
        versions = {
            "Python": self.python,
            self.backend: self.backend_version,
            "Keras": self.keras,
            "NumPy": self.numpy,
        }
        facts: dict[str, str] = {
            keys.MACHINE_CPU: self.cpu,
            keys.MACHINE_CORES: f"{self.logical_cores}, {self.usable_cores} usable",
            keys.MACHINE_MEMORY: f"{self.memory_gib:.1f}",
            keys.MACHINE_THREADS: threads,
            keys.MACHINE_VERSIONS: ", ".join(f"{name} {of}" for name, of in versions.items() if of),
            keys.MACHINE_ONEDNN: "not set" if self.onednn is None else self.onednn,
            keys.MACHINE_SYSTEM: self.system,
            keys.MACHINE_LOAD: load,
        }
        if self.gpus:  # of several alike the number is said, not the name again
            named = Counter(self.gpus).items()
            facts[keys.MACHINE_GPUS] = ", ".join(f"{count} x {name}" for name, count in named)
        return {name.removeprefix(keys.MACHINE_PREFIX): text for name, text in facts.items()}


def load_average() -> float | None:
    """Return the processes running or waiting over the last minute; None where unknown (Windows).

    Read it as the run starts: later it shows the run itself.
    """
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # no such function; the system does not say
        return None


def describe_machine(load: float | None = None) -> Machine:
    """Describe this machine; Keras' backend is asked only if it is loaded already.

    Args:
        load: What `load_average()` said as the run started; by default read now.
    """
    framework = loaded_framework()
    is_loaded = framework.module is not None
    intra_op, inter_op = (framework.threads() if is_loaded else None) or (None, None)
    logical = os.cpu_count() or 1
    return Machine(
        cpu=_cpu_name(),
        logical_cores=logical,
        usable_cores=usable_cores() or logical,
        memory_gib=psutil.virtual_memory().total / _GIB,
        intra_op_threads=intra_op,
        inter_op_threads=inter_op,
        gpus=framework.gpus() if is_loaded else None,
        python=platform.python_version(),
        tensorflow=_version("tensorflow"),
        keras=_version("keras"),
        numpy=_version("numpy"),
        onednn=os.environ.get(ONEDNN),
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        backend=framework.title,
        backend_version=_version(framework.package),
        load_average=load_average() if load is None else load,
    )


def _cpu_name(cpuinfo: Path = _CPUINFO) -> str:
    # Python's own name for a Linux processor is its architecture.
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    found = re.search(r"^model name\s*: *(.*\S)", text, re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def processor_features(cpuinfo: Path = _CPUINFO) -> tuple[str, ...]:
    """Return the processor's instructions that matter for training; empty where it is not told."""
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    found = re.search(r"^(?:flags|Features)\s*: *(.*)", text, re.MULTILINE)
    flags = found[1].split() if found else []
    return tuple(name for name in _FEATURES if name in flags)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # for example tensorflow-cpu in its place
        return None
