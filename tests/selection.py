"""Which tests are fast, and in what order the files start."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

FAST = (
    "analysis",
    "commands/test_predict.py",
    "data",
    "jobs/test_executors.py",
    "measure/test_energy.py",
    "measure/test_frameworks.py",
    "measure/test_machine.py",
    "measure/test_quantiles.py",
    "process/test_absent.py",
    "process/test_atomic_file.py",
    "process/test_beside.py",
    "process/test_disk_history.py",
    "process/test_file_lock.py",
    "process/test_forked.py",
    "process/test_garbage.py",
    "process/test_lazy.py",
    "process/test_parent.py",
    "process/test_redaction.py",
    "process/test_secret_names.py",
    "process/test_waiting.py",
    "registration/test_checks.py",
    "registration/test_findings.py",
    "registration/test_gates.py",
    "registration/test_reports.py",
    "report/test_forms.py",
    "report/test_junit.py",
    "report/test_pictures.py",
    "report/test_plots.py",
    "report/test_promotion.py",
    "report/test_sweep.py",
    "search",
    "terminal",
    "tracking/test_predictions.py",
    "training/test_checkpoint.py",
    "training/test_model_arguments.py",
    "training/test_run_contents.py",
    "training/test_user_source.py",
    "test_cli.py",
    "settings",
    "test_naming.py",
    "test_packaging.py",
)
"""Folders and files of pure tests: they import neither MLflow nor TensorFlow, and take no time.

Those of them that are marked `thorough` are left out of `-m fast`: simulations of error rates,
drawings, what starts processes or waits. Files of nothing else are not among them.
"""

SLOW = (
    "commands/test_benchmark_processes.py::test_a_killed_training_is_done_again",
    "commands/test_serving.py",
    "commands/test_team_server.py",
    "jobs/test_clusters.py::TestRay",
    "measure/test_backends.py",
    "test_examples.py::test_an_example",
    "test_examples.py::test_the_notebook_runs",
    "test_examples.py::test_the_regression",
    "test_fault_points.py::test_a_sample",
    "tracking/outbox/test_power_cuts.py",
)
"""What starts a world of its own: servers of a team, a cluster, another backend, a notebook, a part
of a campaign. It takes a quarter of the time; CI has it as a step of its own (`pytest -m slow`)."""

HEAVY = ("keras", "mlflow", "tensorflow")

LONGEST_FIRST = (
    "fitting/test_fitting.py",
    "commands/test_train.py",
    "commands/test_train_processes.py",
    "jobs/test_clusters.py",
    "commands/test_register.py",
    "commands/test_sweep.py",
    "commands/test_team_server.py",
    "commands/test_compare.py",
    "commands/test_resume.py",
    "test_examples.py",
    "commands/test_benchmark_processes.py",
    "tracking/outbox/test_delivery.py",
    "commands/test_serving.py",
    "measure/test_backends.py",
    "training/test_own_data.py",
    "training/test_read_back.py",
    "commands/test_register_own_data.py",
    "scripts/test_cost_callback.py",
    "scripts/test_what_the_fit_did.py",
    "commands/test_benchmark.py",
    "commands/test_benchmark_auto.py",
    "commands/test_train_arguments.py",
    "tracking/outbox/test_damage.py",
    "tracking/outbox/test_lease.py",
    "measure/flops/test_any_model.py",
    "training/test_model_io.py",
    "tracking/test_hostile_runs.py",
    "measure/test_memory.py",
    "scripts/test_fit_observer.py",
    "scripts/test_track.py",
    "measure/test_training.py",
    "training/test_models.py",
    "fitting/cpu/test_fast_steps.py",
    "measure/flops/test_layers.py",
    "report/test_html.py",
    "training/test_optimizers.py",
    "measure/flops/test_profile.py",
    "tracking/test_registry.py",
    "measure/flops/test_witnesses.py",
    "test_imports.py",
    "test_private_names.py",
    "tracking/outbox/test_courier.py",
    "tracking/outbox/test_earlier_journals.py",
    "commands/test_benchmark_outage.py",
    "measure/test_memory_allocator.py",
)
"""The files that take longest. A file stays in one process, so a long one must not come last."""


@cache
def is_fast(path: Path) -> bool:
    """Whether a file, or a folder with all that is in it, is of the fast tests."""
    return any(path.is_relative_to(TESTS / place) for place in FAST)


def only_fast(config: pytest.Config) -> bool:
    """Whether pytest was called with `-m fast`."""
    return bool(config.option.markexpr == "fast")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Have pytest-xdist start the files in the order of the tests; take all of what is named."""
    config.option.loadscopereorder = False
    is_named = config.args_source is pytest.Config.ArgsSource.ARGS
    if is_named and config.option.markexpr == "not slow":
        config.option.markexpr = ""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the other files of `-m fast`: to look into them is to import MLflow."""
    if only_fast(config) and collection_path.suffix == ".py" and not is_fast(collection_path):
        return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the fast and the slow tests; put the longest files first."""
    ranks = {TESTS / name: rank for rank, name in enumerate(LONGEST_FIRST)}
    slow = tuple(f"tests/{name}" for name in SLOW)
    for item in items:
        if is_fast(item.path) and not item.get_closest_marker("thorough"):
            item.add_marker("fast")
        if item.nodeid.startswith(slow):
            item.add_marker("slow")
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse a fast file that imports MLflow or TensorFlow."""
    if imported := imported_needlessly(session.config):
        raise pytest.UsageError(f"a file of the fast tests imports {imported}")


@pytest.hookimpl(trylast=True)  # after the fixtures
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Fail a fast test that imports MLflow or TensorFlow when it runs."""
    if imported := imported_needlessly(item.config):
        pytest.fail(f"a fast test, this one or one before, imported {imported}")


def imported_needlessly(config: pytest.Config) -> str:
    """Name what a session of `-m fast` must not import and did."""
    return ", ".join(name for name in HEAVY if name in sys.modules) if only_fast(config) else ""
