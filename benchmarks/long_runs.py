"""Train for long, and see what grows: memory, threads, file descriptors, the journal.

    python -m benchmarks.long_runs epochs --epochs 2000
    python -m benchmarks.long_runs trainings --count 50

`epochs` trains `mlp` on `digits` while the tracking server goes and comes back at random;
`trainings` trains it again and again in one process. Each prints one JSON object. The slope of the
memory, at the end of each epoch or training, is a least-squares line, the first quarter left out.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import psutil
from typing_extensions import override

from benchmarks.faults import fork, server, wait
from fm_mlflow.listeners import ProgressListener

_EVERY_SECONDS = 0.5


def slope(values: Sequence[float]) -> float:
    """Return how much values grow in 1,000 of them; the first quarter is left out."""
    late = np.asarray(values[len(values) // 4 :], float)
    return float(np.polyfit(np.arange(len(late)), late, 1)[0] * 1000) if len(late) > 1 else 0.0


class Memory(ProgressListener):
    """Writes a line an epoch: MiB of its own that the process has, in memory or swapped out.

    The kernel fetches the code of libraries when it runs, and swaps out what is not used for long:
    neither is growth.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    @override
    def epoch(self, epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        kib = [int(each.split()[1]) for each in lines if each.startswith(("Anonymous:", "Swap:"))]
        print(round(sum(kib) / 1024, 2), file=self._file, flush=True)


class Samples:
    """Looks at a process now and then, until it is told to stop."""

    def __init__(self, pid: int, journals: Path) -> None:
        self._process, self._journals = psutil.Process(pid), journals
        self.taken: list[dict[str, int]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY_SECONDS):
            try:
                with self._process.oneshot():
                    sample = {
                        "threads": self._process.num_threads(),
                        "descriptors": self._process.num_fds(),
                        "rss": self._process.memory_info().rss,
                    }
            except psutil.Error:
                return
            if not sample["rss"]:
                return  # it has ended
            self.taken.append({**sample, **self._sizes()})

    def _sizes(self) -> dict[str, int]:
        """Return bytes of the journal's file, and of all that lies beside it."""
        sizes = {"journal": 0, "beside": 0}
        for path in self._journals.rglob("*"):
            try:
                name = "journal" if path.name == "journal.jsonl" else "beside"
                sizes[name] += path.stat().st_size if path.is_file() else 0
            except OSError:  # it has just been replaced
                continue
        return sizes

    def stop(self) -> dict[str, Any]:
        """Return the median of the second quarter, of the last one, and the largest value."""
        self._stopping.set()
        self._thread.join()
        found: dict[str, Any] = {"samples": len(self.taken)}
        quarter = len(self.taken) // 4
        for name in self.taken[0] if quarter else ():
            values = [sample[name] for sample in self.taken]
            early, late = values[quarter : 2 * quarter], values[-quarter:]
            found[name] = [float(np.median(early)), float(np.median(late)), max(values)]
        return found


def epochs(count: int, seed: int, folder: Path) -> dict[str, Any]:
    """Train for as many epochs, with a server that is up and down at random."""
    import mlflow
    from mlflow.tracking import MlflowClient

    import fm_mlflow
    from tests.outages import Line, Way
    from tests.stores import Store

    draw = random.Random(seed)
    journals = folder / "journals"
    os.environ["FM_MLFLOW_JOURNAL_DIR"] = str(journals)
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "5"
    with server(folder) as direct:
        line = Line(Store(direct, folder))

        def train() -> None:
            mlflow.set_tracking_uri(line.uri)
            settings: dict[str, Any] = {"dataset": "digits", "measure": "none"}
            with (folder / "memory").open("w") as file:
                fm_mlflow.train(
                    "mlp", epochs=count, flush_timeout=120, progress=Memory(file), **settings
                )

        began = time.monotonic()
        pid = fork(train, folder / "log")
        samples = Samples(pid, journals)
        outages = []
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(draw.uniform(1, 10))
            lasts = draw.choice([0.5, 2, 8])
            line.set(draw.choice([Way.CUT, Way.SILENT, Way.ILL]))
            time.sleep(lasts)
            line.set(Way.OPEN)
            outages.append(lasts)
        seconds = time.monotonic() - began
        if wait(pid):
            raise RuntimeError((folder / "log").read_text()[-5000:])
        found = samples.stop()
        pending = [path.name for path in journals.glob("j-*")]
        mlflow.set_tracking_uri(line.uri)
        fm_mlflow.sync()  # it was down too long at the end
        client = MlflowClient(direct)
        (run,) = client.search_runs(["0"])
        history = client.get_metric_history(run.info.run_id, "loss")
        line.close()
    memory = [float(line) for line in (folder / "memory").read_text().split()]
    return {
        "epochs": count,
        "seconds": round(seconds, 1),
        "outages": len(outages),
        "seconds without the server": sum(outages),
        "status": run.info.status,
        "every epoch is in the store once": sorted(each.step for each in history)
        == list(range(1, count + 1)),
        "MiB in 1,000 epochs": round(slope(memory), 3),
        "MiB at a quarter, at the end": [memory[len(memory) // 4], memory[-1]],
        "bytes of journal an epoch": found.get("journal", [0, 0, 0])[2] / count,
        "pending at the end, delivered by sync": pending,
        "journals left": [path.name for path in journals.glob("j-*")],
        "second quarter, last quarter, largest": found,
    }


def trainings(count: int, folder: Path) -> dict[str, Any]:
    """Train as often in this process."""
    import mlflow

    import fm_mlflow

    os.environ["FM_MLFLOW_JOURNAL_DIR"] = str(folder / "journals")
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    process, taken = psutil.Process(), []
    began = time.monotonic()
    settings: dict[str, Any] = {"dataset": "digits", "measure": "none"}
    for seed in range(count):
        fm_mlflow.train("mlp", epochs=2, seed=seed, **settings)
        gc.collect()
        taken.append(
            {
                "MiB": process.memory_info().rss / 2**20,
                "threads": process.num_threads(),
                "descriptors": process.num_fds(),
            }
        )
    rss = [each["MiB"] for each in taken]
    return {
        "trainings": count,
        "seconds": round(time.monotonic() - began, 1),
        "MiB a training": round(slope(rss) / 1000, 3),
        "first, at a quarter, last": [taken[0], taken[count // 4], taken[-1]],
        "journals left": [path.name for path in (folder / "journals").glob("j-*")],
    }


def main() -> None:
    """Run one campaign."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("campaign", choices=["epochs", "trainings"])
    parser.add_argument("--epochs", type=int, default=2000)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ["MLFLOW_EXPERIMENT_ID"] = "0"  # which `epochs` searches
    import fm_mlflow.training  # noqa: F401
    from fm_mlflow.process.quiet import import_tensorflow

    import_tensorflow()  # before the fork, which has a runtime of its own
    with tempfile.TemporaryDirectory(prefix="long-runs-") as name:
        folder = Path(name)
        os.chdir(folder)
        if given.campaign == "epochs":
            result = epochs(given.epochs, given.seed, folder)
        else:
            result = trainings(given.count, folder)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
