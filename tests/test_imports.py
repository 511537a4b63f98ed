"""What is imported when: the command line answers at once, comparing never loads TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import PROJECT
from tests.stores import Store

LOADED = """
import sys
seen = {name.partition(".")[0] for name in sys.modules}
print("loaded:", *sorted(seen & {"tensorflow", "keras", "mlflow", "pandas"}))
"""

LAZY = """
import sys
from fm_mlflow.process.lazy import SELDOM_USED, lazy_modules
with lazy_modules(*SELDOM_USED):
    import fm_mlflow.tracking.run, mlflow.store.tracking.sqlalchemy_store, scipy.special
def sizes():
    return [len(vars(sys.modules[each])) for each in SELDOM_USED]
looked_at = sizes()
assert max(looked_at) < 12, looked_at
import mako.exceptions, mlflow.gateway, numpy, pydoc
_ = mlflow.gateway.get_gateway_uri, numpy.f2py.run_main, numpy.testing.assert_allclose
_ = mako.exceptions.text_error_template, pydoc.getdoc
assert all(map(int.__lt__, looked_at, sizes())), (looked_at, sizes())
"""

COMMAND = """
import fm_mlflow.cli
try:
    fm_mlflow.cli.main({})
except SystemExit:
    pass
"""


def loaded_after_each(codes: list[str]) -> list[list[str]]:
    """Run codes in one process, one after another; say which of the heavy packages it has."""
    code = "\n".join(each + LOADED for each in codes)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    return [line.split()[1:] for line in lines if line.startswith("loaded:")]


def test_neither_tensorflow_nor_mlflow_nor_pandas_is_imported() -> None:
    codes = [
        "import fm_mlflow",
        "from fm_mlflow import TrainConfig, InputError, train",
        "from fm_mlflow.measure import Measurement",
        "import fm_mlflow.commands.train",
        "import fm_mlflow.commands.benchmark, fm_mlflow.jobs.executors",
        "import fm_mlflow.commands.sweep, fm_mlflow.terminal.sweep_progress",
        "import fm_mlflow.terminal.benchmark_progress",
        COMMAND.format(["--help"]),
        COMMAND.format(["train", "--help"]),
        COMMAND.format(["train", "--epochs", "0"]),
        COMMAND.format(["compare", "--help"]),
        COMMAND.format(["benchmark", "--help"]),
    ]
    # In one process, which says after each what is loaded by then.
    assert loaded_after_each(codes) == [[]] * len(codes)


def test_neither_tracking_nor_benchmarking_nor_comparing_imports_tensorflow(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    benchmarks = """
from fm_mlflow import benchmark
from fm_mlflow.terminal.benchmark import print_benchmark
from fm_mlflow.terminal.lines import SafeConsole
from tests.cluster import Cluster
print_benchmark(SafeConsole(), benchmark(seeds=1, dataset="digits", executor=Cluster()))
"""
    codes = [LAZY, "import fm_mlflow.tracking.run", benchmarks, COMMAND.format(["compare"])]
    # That these two are seen shows that the test above would see them.
    assert loaded_after_each(codes) == [["mlflow", "pandas"]] * len(codes)
    assert (store.folder / "comparison" / "report.html").exists()


def collect_fast(folder: Path, plugin: str, *files: str) -> subprocess.CompletedProcess[str]:
    (folder / "plugin_of_a_test.py").write_text(plugin)
    options = ["-m", "fast", "--collect-only", "-q", "--assert=plain"]  # nothing is asserted
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTEST_PLUGINS": "plugin_of_a_test"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_fast_tests_are_collected_without_tensorflow_and_mlflow(tmp_path: Path) -> None:
    done = collect_fast(tmp_path, "")
    assert done.returncode == 0, done.stdout + done.stderr
    files = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    assert {"tests/analysis/test_verdicts.py", "tests/settings/test_config.py"} <= files
    (tmp_path / "mlflow.py").touch()  # its name is enough
    refused = collect_fast(tmp_path, "import mlflow", "tests/settings/test_config.py")
    assert refused.returncode == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: a file of the fast tests imports mlflow" in refused.stderr


def test_every_public_name_can_be_had() -> None:
    import fm_mlflow

    for name in fm_mlflow.__all__:
        assert getattr(fm_mlflow, name).__name__ == name
        assert name in dir(fm_mlflow)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fm_mlflow.nothing
