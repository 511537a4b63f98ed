"""Strike at each fault point of each command, recover as documented, and ask the oracle."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.fault_commands import COMMANDS, POINTS_VARIABLE, Command, enter, restore
from benchmarks.fault_oracle import DATABASE, Contents, contents, differences
from benchmarks.fault_points import FAULTS, Points, install, kind_of
from benchmarks.faults import fork, wait
from fm_mlflow.process.quiet import import_tensorflow
from tests.processes import free_port, wait_until_it_answers
from tests.stores import NO_JOBS

_LONGEST_SECONDS = 90.0
_ORPHANS_SECONDS = 30.0
_SHOWN = 6


@dataclass
class Found:
    """What a campaign found of one command.

    Attributes:
        points: Points that an undisturbed run passes.
        struck: Faults that were applied.
        killed_again: Recoveries that were killed, too.
        missed: Points that were not passed this time: threads take turns by chance.
        recovered: After how many the oracle found what an undisturbed run leaves.
        broken: The others, each with what is wrong and what repeats it.
    """

    points: int = 0
    struck: int = 0
    killed_again: int = 0
    missed: list[str] = field(default_factory=list)
    recovered: int = 0
    broken: list[dict[str, Any]] = field(default_factory=list)


class Campaign:
    """Faults in one command, each on the same beginning.

    Args:
        name: Of the command.
        folder: Where it happens; the command's own is always `folder/case`, because a store knows
            its artifacts by absolute paths.
        http: Whether the store is a server's; by default it is its database.

    Raises:
        RuntimeError: Two undisturbed runs do not leave the same.
    """

    def __init__(self, name: str, folder: Path, *, http: bool = False) -> None:
        self.name = name
        self._uri = ""
        self._server: list[psutil.Process] = []
        self._command: Command = COMMANDS[name]
        self._case, self._saved = folder / "case", folder / "saved"
        self._log, self._passed = folder / "log", folder / "passed"
        self.found = Found()
        shutil.rmtree(self._case, ignore_errors=True)
        self._case.mkdir(parents=True)
        self._do(self._make_store, "has no store")
        if http:
            self._serve()
        if self._command.prepare is not None:
            self._do(self._prepare, "cannot be prepared")
        shutil.rmtree(self._saved, ignore_errors=True)
        shutil.copytree(self._case, self._saved)
        began = time.monotonic()
        self.points = self._undisturbed()
        self.seconds = time.monotonic() - began
        self.expected = self._contents()
        self._undisturbed()
        if different := differences(self.expected, self._contents()):
            raise RuntimeError(f"{name}: undisturbed runs differ: " + "\n".join(different[:20]))
        self.found.points = len(self.points)

    def _make_store(self) -> None:
        from mlflow.tracking import MlflowClient

        enter(self._case)
        MlflowClient().search_experiments()

    def _serve(self) -> None:
        with closing(sqlite3.connect(self._case / DATABASE)) as database, database:
            database.execute("UPDATE experiments SET artifact_location = 'mlflow-artifacts:/0'")
        port = free_port()
        backend = f"sqlite:///{self._case / DATABASE}"
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
            *("--backend-store-uri", backend, "--workers", "1"),
            *("--artifacts-destination", str(self._case / "artifacts")),
        ]
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self._case.parent,
                env={**os.environ, **NO_JOBS},
                start_new_session=True,
            )
        self._uri = f"http://127.0.0.1:{port}"
        wait_until_it_answers(f"{self._uri}/health", process, self._log)
        server = psutil.Process(process.pid)
        self._server = [server, *server.children(recursive=True)]

    def close(self) -> None:
        """Stop the server."""
        for process in self._server:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _prepare(self) -> None:
        enter(self._case, self._uri)
        if self._command.prepare is not None:
            self._command.prepare()

    def _contents(self) -> Contents:
        return contents(self._case, once=self._command.once, timed=self._command.timed)

    def _do(self, work: Callable[[], object], failure: str) -> None:
        self._log.write_text("")
        if wait(fork(work, self._log)):
            raise RuntimeError(f"{self.name} {failure}: {self._log.read_text()[-3000:]}")
        self._wait_for_orphans()

    def _undisturbed(self) -> list[str]:
        restore(self._saved, self._case)
        self._do(lambda: self._run("", ""), "fails undisturbed")
        self._do(self._settle, "cannot be settled")
        return list(dict.fromkeys(self._passed.read_text().splitlines()))

    def _run(self, at: str, fault: str) -> None:
        enter(self._case, self._uri)
        if self._command.setup is not None:
            self._command.setup()
        log = os.open(self._passed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        if self._command.strikes_jobs:
            once = self._passed.with_suffix(".struck")
            once.unlink(missing_ok=True)
            points = [*map(str, (self._case, self._passed)), at, fault, str(once)]
            os.environ[POINTS_VARIABLE] = json.dumps(points)
        else:
            install(Points(self._case, log, at, fault))
        self._command.run()

    def _settle(self) -> None:
        """Do what a command that ended well may ask for: `sync`."""
        import fm_mlflow

        enter(self._case, self._uri)
        fm_mlflow.sync()

    def _recover(self) -> None:
        enter(self._case, self._uri)
        if self._command.setup is not None:
            self._command.setup()
        self._command.recover()

    def strike(self, at: str, fault: str) -> None:
        """Have a fault strike at a point, recover, and compare."""
        restore(self._saved, self._case)
        pid = fork(lambda: self._run(at, fault), self._log)
        code = self._ended(pid)
        repeat = ["--command", self.name, "--at", at, "--fault", fault]
        if "struck" not in self._passed.read_text().splitlines():
            self.found.missed.append(at)
            if code == 0:
                return
        self.found.struck += 1
        self._judge(code, repeat)

    def kill(self, draw: random.Random) -> None:
        """Kill the command at a random moment, and what recovers it, too, every other time."""
        restore(self._saved, self._case)
        moment = draw.uniform(0, self.seconds)
        code = self._killed(fork(lambda: self._run("", ""), self._log), moment)
        while code and draw.random() < 0.5:
            self.found.killed_again += 1
            code = self._killed(fork(self._recover, self._log), draw.uniform(0, self.seconds))
        self.found.struck += 1
        self._judge(code, ["--command", self.name], f"kills, at {moment:.3f} s")

    def _killed(self, pid: int, moment: float) -> int:
        deadline = time.monotonic() + moment
        while time.monotonic() < deadline:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                break
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        code = wait(pid)
        self._wait_for_orphans()
        return code

    def _ended(self, pid: int) -> int:
        """Wait for a process; one that hangs is killed."""
        deadline = time.monotonic() + _LONGEST_SECONDS
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        code = wait(pid)
        self._wait_for_orphans()
        return code

    def _wait_for_orphans(self) -> None:
        """Wait for what a killed process had started, which has become our child."""
        deadline = time.monotonic() + _ORPHANS_SECONDS
        while (left := self._children()) and time.monotonic() < deadline:
            try:
                os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            time.sleep(0.01)
        for each in left:
            each.kill()

    def _children(self) -> set[psutil.Process]:
        return set(psutil.Process().children(recursive=True)) - set(self._server)

    def _judge(self, code: int, repeat: Sequence[str], campaign: str = "points") -> None:
        said = self._log.read_text(errors="replace")[-1500:]
        self._log.unlink()
        self._log.touch()
        wrong: list[str] = []
        try:
            recovery = self._ended(fork(self._recover if code else self._settle, self._log))
        finally:
            again = self._log.read_text(errors="replace")[-1500:]
        if recovery:
            wrong.append(f"the recovery fails: {again.strip().splitlines()[-1:]}")
        wrong += differences(self.expected, self._contents())
        if not wrong:
            self.found.recovered += 1
            return
        self.found.broken.append(
            {
                "exit code": code,
                "wrong": [line[:400] for line in wrong[:_SHOWN]],
                "repeat": f"python -m benchmarks.faults {campaign} {shlex.join(repeat)}",
                "said": said[-700:],
                "recovery said": again[-700:],
            }
        )
        print(json.dumps(self.found.broken[-1], indent=1), file=sys.stderr, flush=True)


def get_ready(commands: Sequence[str]) -> None:
    """Import what commands need, and run nothing: each fork begins with it.

    Nothing may start a thread, open a store or run an operation of TensorFlow here.
    """
    import fm_mlflow.commands.reconcile
    import fm_mlflow.tracking.running
    from fm_mlflow.process.linux import adopt_orphans

    adopt_orphans()
    if all(COMMANDS[name].is_light for name in commands):
        return
    import_tensorflow()
    import fm_mlflow.commands.benchmark
    import fm_mlflow.commands.predict
    import fm_mlflow.commands.promote
    import fm_mlflow.commands.resume
    import fm_mlflow.commands.sweep
    import fm_mlflow.commands.track
    import fm_mlflow.fitting.loop
    import fm_mlflow.jobs.trainings
    import fm_mlflow.jobs.trial_rounds
    import fm_mlflow.measure.training
    import fm_mlflow.report.html
    import fm_mlflow.scripts.tracked
    import fm_mlflow.tracking.load_model
    import fm_mlflow.tracking.save_model
    import fm_mlflow.training.models

    fm_mlflow.data.dataset.load_dataset("digits")


def chosen(points: Sequence[str], each: int) -> list[str]:
    """Return the first and the last of what one place does again and again, at most `each`."""
    by_place: dict[str, list[str]] = {}
    for point in points:
        by_place.setdefault(point.rpartition("#")[0], []).append(point)
    kept: list[str] = []
    for same in by_place.values():
        first = (each + 1) // 2
        kept += (
            same if not each or len(same) <= each else same[:first] + same[len(same) - each // 2 :]
        )
    return kept


def points(
    commands: Sequence[str],
    faults: Sequence[str],
    *,
    folder: Path,
    until: float,
    each: int = 2,
    sample: int = 0,
    seed: int = 0,
    at: str = "",
    http: bool = False,
) -> dict[str, Any]:
    """Strike at the points of commands.

    Args:
        commands: Names in `COMMANDS`.
        faults: Names in `FAULTS`.
        folder: For all that is written.
        until: Begin nothing after that, on the monotonic clock.
        each: Of what one place does again and again, how many times count, first and last; 0: all.
        sample: Of each command, so many faults, by chance; 0: all.
        seed: Of the sample.
        at: Only this point.
        http: Whether the store is a server's.
    """
    found: dict[str, Found] = {}
    for name in commands:
        try:
            campaign = Campaign(name, folder, http=http)
        except RuntimeError as error:
            found[name] = Found(broken=[{"wrong": str(error)}])
            print(error, file=sys.stderr, flush=True)
            continue
        todo = [
            (point, fault)
            for fault in faults
            for point in ([at] if at else chosen(campaign.points, each))
            if kind_of(point) in FAULTS[fault]
        ]
        if sample and not at:
            draw = random.Random(f"{seed} {name}")
            todo = draw.sample(todo, min(sample, len(todo)))
        began = time.monotonic()
        for point, fault in todo:
            if time.monotonic() > until:
                break
            campaign.strike(point, fault)
        campaign.close()
        found[name] = campaign.found
        seconds = time.monotonic() - began
        print(
            f"{name}: {len(campaign.points)} points, {campaign.found.struck} of {len(todo)} faults "
            f"in {seconds:.0f} s, {len(campaign.found.broken)} broken",
            file=sys.stderr,
            flush=True,
        )
    return {name: vars(each) for name, each in found.items()}


def kills(
    commands: Sequence[str], rounds: int, *, folder: Path, until: float, seed: int
) -> dict[str, Any]:
    """Kill commands at uniformly random moments, `rounds` times each."""
    found: dict[str, Found] = {}
    for name in commands:
        campaign = Campaign(name, folder)
        draw = random.Random(f"{seed} {name}")
        for _ in range(rounds):
            if time.monotonic() > until:
                break
            campaign.kill(draw)
        found[name] = replace(campaign.found)
        print(f"{name}: {campaign.found}", file=sys.stderr, flush=True)
    return {name: vars(each) for name, each in found.items()}


def table(found: dict[str, Any]) -> str:
    """Return the figures as a table."""
    lines = [f"{'command':20} {'points':>7} {'faults':>7} {'recovered':>10} {'broken':>7}"]
    lines += [
        f"{name:20} {each['points']:7} {each['struck']:7} {each['recovered']:10} "
        f"{len(each['broken']):7}"
        for name, each in found.items()
    ]
    return "\n".join(lines)
