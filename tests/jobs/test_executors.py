"""Local processes as an executor: their lines, their ends, their causes."""

from __future__ import annotations

import pytest

from fm_mlflow import __version__
from fm_mlflow.jobs.executors import Job, JobEnd, JobProgress, LocalExecutor, cause_of_end
from fm_mlflow.listeners import Progress
from tests.processes import START_SECONDS


@pytest.mark.thorough
def test_jobs_run_side_by_side_and_their_ends_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "nonsense")  # Python complains of it on stderr
    good = Job("1", "good", ("--version",), {"PYTHONWARNINGS": None})
    bad = Job("2", "bad", ("train", "--epochs=0"), {"PYTHONWARNINGS": None})
    told: list[JobProgress] = []
    ends: dict[str, JobEnd] = {}
    with LocalExecutor(2) as executor:
        assert (executor.slots, executor.jobs_per_machine) == (2, 2)
        executor.submit(good)
        executor.submit(bad)
        while len(ends) < 2:
            for event in executor.events(START_SECONDS):
                if isinstance(event, JobEnd):
                    ends[event.job.name] = event
                else:
                    told.append(event)
    assert ends["good"] == JobEnd(good, None, f"fm_mlflow {__version__}\n")
    cause = "epochs: received '0', accepted: a whole number from 1 to 1000000"
    assert told == [JobProgress(bad, Progress(event="error", text=cause))]
    assert ends["bad"] == JobEnd(bad, cause, f"fm-mlflow: {cause}\n")


@pytest.mark.thorough
def test_what_still_runs_at_the_end_is_killed() -> None:
    with LocalExecutor() as executor:
        executor.submit(Job("1", "slow", ("--version",), {}))
        process = executor._running[0].process
    assert process.returncode is not None
    with LocalExecutor() as executor:
        assert executor.events(0) == []


@pytest.mark.parametrize(
    ("code", "output", "error", "cause"),
    [
        (0, "fm-mlflow: a warning\n", "", None),
        (1, "fm-mlflow: the disk is full\nat exit\n", "the disk is full", "the disk is full"),
        (3, "Traceback\nKeyError: 'x'\n\n", "", "exit code 3; its last line: KeyError: 'x'"),
        (-11, "", "", "killed by SIGSEGV; its last line: none"),
        (
            -9,
            "epoch 1/5\n",
            "interrupted by SIGTERM",
            "killed by SIGKILL (by hand, or because memory ran out); its last line: epoch 1/5",
        ),
    ],
)
def test_the_cause_of_an_end(code: int, output: str, error: str, cause: str | None) -> None:
    assert cause_of_end(code, output, error) == cause
