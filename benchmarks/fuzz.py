"""Give the package damaged and hostile files and stores: none may end in a traceback or a hang.

    python -m benchmarks.fuzz files --count 2100 --seed 0
    python -m benchmarks.fuzz stores --count 500 --seed 0
    python -m benchmarks.fuzz journals --count 500 --seed 0

Each prints a table and one JSON object: kind of input, how many, the slowest in seconds, the
highest resident memory in MiB of the process that read one (its libraries included), how many
were refused in words, and which escaped: ended in another error than the package's own, took
longer than 60 s or more than 1 GiB. Exit code 1 if any did. An input that escaped is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.hostile_files import KINDS, mutated
from tests.hostile_stores import HostileStores

HANG_SECONDS = 60
MOST_MIB = 1024
_BATCH = 50

# As the command sets them: it does not wait for minutes where nobody answers.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}

# Reads one input from a folder; says whether it was refused.
Read = Callable[[Path], bool]
Row = dict[str, Any]


class HungError(BaseException):
    """An input took too long. No Exception, so that nothing takes it for damage."""


def _hung(*_: object) -> None:
    raise HungError(f"longer than {HANG_SECONDS} s")


def run(kind: str, inputs: Sequence[Callable[[Path], None]], read: Read, kept: Path) -> Row:
    """Read inputs, some at a time in forks of this process, and sum up what came of them."""
    results: list[dict[str, Any]] = []
    for start in range(0, len(inputs), _BATCH):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            code = 1
            try:
                with open(writer, "w") as output:
                    for number in range(start, min(start + _BATCH, len(inputs))):
                        result = _one(inputs[number], read, kept / f"{kind}-{number}")
                        print(json.dumps({"number": number, **result}), file=output, flush=True)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writer)
        with open(reader) as lines:
            batch = [json.loads(line) for line in lines]
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code:
            number = start + len(batch)
            died = {"number": number, "escaped": f"the process died with {code}", "refused": False}
            batch.append({**died, "seconds": 0.0, "mib": 0.0})
        results += batch
    escaped = [f"{each['number']}: {each['escaped']}" for each in results if each["escaped"]]
    return {
        "kind": kind,
        "inputs": len(results),
        "seconds": max((each["seconds"] for each in results), default=0.0),
        "mib": max((each["mib"] for each in results), default=0.0),
        "refused": sum(each["refused"] for each in results),
        "escaped": escaped,
    }


def _one(make: Callable[[Path], None], read: Read, kept: Path) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="fm_mlflow-fuzz-"))
    signal.signal(signal.SIGALRM, _hung)
    make(folder)
    escaped, refused = "", False
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    signal.alarm(HANG_SECONDS)
    began = time.perf_counter()
    try:
        refused = read(folder)
    except BaseException as error:
        escaped = f"{type(error).__name__}: {error}".splitlines()[0]
        (folder / "traceback.txt").write_text(traceback.format_exc())
    finally:
        signal.alarm(0)
    seconds = time.perf_counter() - began
    mib = _peak_mib()
    if mib > MOST_MIB and not escaped:
        escaped = f"{mib:.0f} MiB"
    if escaped:
        shutil.move(str(folder), kept)
    else:
        shutil.rmtree(folder)
    return {"seconds": seconds, "mib": mib, "refused": refused, "escaped": escaped}


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def files(count: int, seed: int, kept: Path) -> Iterator[Row]:
    """Every hostile case of every kind of file, then random damage to valid ones."""
    for number, (kind, found) in enumerate(KINDS.items()):
        draw = random.Random(f"{seed} {kind}")
        share = count // len(KINDS) + (number < count % len(KINDS))
        contents = [*found.cases.values()]
        for _ in range(share - len(contents)):
            content = mutated(draw, found.valid)
            contents.append(lambda content=content: content)  # type: ignore[misc]
        inputs = [_writer(found.name, content) for content in contents[:share]]
        yield run(kind, inputs, _READERS[kind](kept), kept)


def _writer(name: str, content: Callable[[], bytes]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content())

    return write


def _train_and_predict(_: Path) -> Read:
    """As `train` loads its data, and as `predict` reads its images."""
    from fm_mlflow.commands.predict import _CHUNK
    from fm_mlflow.data.dataset import load_dataset
    from fm_mlflow.data.image_file import open_images
    from fm_mlflow.errors import FmMlflowError
    from tests.hostile_files import IMAGES, idx

    labels = idx((len(IMAGES),), bytes(range(len(IMAGES))))

    def read(folder: Path) -> bool:
        (file,) = folder.iterdir()
        refused = False
        try:
            with open_images(file) as images:
                for _ in images.chunks(_CHUNK):
                    pass
        except FmMlflowError:
            refused = True
        data = folder / "data"
        data.mkdir()
        file.rename(data / f"train-images-ubyte{'.gz' * file.name.endswith('.gz')}")
        (data / "t10k-images-ubyte").write_bytes(idx(IMAGES.shape, IMAGES.tobytes()))
        for part in ("train", "t10k"):
            (data / f"{part}-labels-ubyte").write_bytes(labels)
        try:
            load_dataset("idx", str(data))
        except FmMlflowError:
            return True
        return refused

    return read


def _compare_reads(kept: Path) -> Read:
    """As `compare` reads the artifacts of a run, the others of which are valid."""
    from fm_mlflow.tracking.run_details import load_details
    from tests.hostile_stores import one_run

    template = kept / "template"
    template.mkdir(exist_ok=True)

    def read(folder: Path) -> bool:
        with one_run(template, folder) as run:
            return bool(load_details([run])[run.run_id].problems)

    return read


_READERS: dict[str, Callable[[Path], Read]] = {
    "IDX": _train_and_predict,
    "IDX, gzip": _train_and_predict,
    ".npy": _train_and_predict,
    "predictions": _compare_reads,
    "measurements": _compare_reads,
    "layers": _compare_reads,
    "model": _compare_reads,
}


def stores(count: int, seed: int, kept: Path) -> Iterator[Row]:
    """Stores of runs with hostile values and artifacts: compared, and read as a data frame."""
    made = HostileStores(kept / "template")
    draws = [random.Random(f"{seed} {number}") for number in range(count)]
    inputs = [partial(made.make, draw=draw) for draw in draws]
    yield run("stores", inputs, made.read, kept)


def journals(count: int, seed: int, _: Path) -> Iterator[Row]:
    """Journals, by a script of their own."""
    from benchmarks.fuzz_journals import campaign

    yield from campaign(count, seed)


def show(rows: Sequence[Row]) -> None:
    """Print the table, and what escaped."""
    print(f"{'kind':<14}{'inputs':>8}{'slowest s':>11}{'MiB':>7}{'refused':>9}{'escaped':>9}")
    for row in rows:
        numbers = f"{row['inputs']:>8}{row['seconds']:>11.2f}{row['mib']:>7.0f}{row['refused']:>9}"
        print(f"{row['kind']:<14}{numbers}{len(row['escaped']):>9}")
    for row in rows:
        for each in row["escaped"]:
            print(f"{row['kind']} {each}")
    print(json.dumps({"rows": rows}))


def main() -> int:
    """Run one campaign."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    campaigns = {"files": (files, 2100), "stores": (stores, 500), "journals": (journals, 500)}
    parser.add_argument("campaign", choices=campaigns)
    parser.add_argument("--count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    campaign, count = campaigns[chosen.campaign]
    # A process that wants ten times the limit is stopped before it takes the machine down.
    limit = 10 * MOST_MIB * 1024**2
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    kept = Path(tempfile.mkdtemp(prefix="fm_mlflow-fuzz-"))
    os.environ.update(_ENVIRONMENT, FM_MLFLOW_JOURNAL_DIR=str(kept / "journals"))
    rows = []
    for row in campaign(chosen.count or count, chosen.seed, kept):
        print(f"{row['kind']}: {row['inputs']}", file=sys.stderr)
        rows.append(row)
    show(rows)
    escaped = sum(len(row["escaped"]) for row in rows)
    if escaped:
        print(f"what escaped is in {kept}", file=sys.stderr)
    else:
        shutil.rmtree(kept)
    return int(escaped > 0)


if __name__ == "__main__":
    sys.exit(main())
