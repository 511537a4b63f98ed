"""Ways to damage a journal's folder, by kind; each takes a source of randomness and the folder."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

Damage = Callable[[random.Random, Path], None]

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**63, 10**400, -0.5, 1e308, float("inf"), float("nan")),
    *("", "\0", "\ud800", "x" * 100_000, "../../etc", [], [[]], {}, {"a": {"b": None}}, [1] * 1000),
)


def line(text: bytes) -> bytes:
    """Return a line whose checksum is right."""
    return b"%08x %s\n" % (zlib.crc32(text), text)


def lines(folder: Path) -> list[bytes]:
    """Return the lines of a journal."""
    return (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)


def _write(folder: Path, changed: list[bytes]) -> None:
    (folder / "journal.jsonl").write_bytes(b"".join(changed))


def _records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(each.partition(b" ")[2]) for each in lines(folder)]


def _file(chance: random.Random, folder: Path) -> Path:
    return folder / chance.choice(["journal.jsonl", "journal.jsonl", "state.json"])


def flip_bits(chance: random.Random, folder: Path) -> None:
    """Flip 1 to 64 bits."""
    path = _file(chance, folder)
    data = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 1, 2, 8, 64])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def cut(chance: random.Random, folder: Path) -> None:
    """Cut the end off."""
    path = _file(chance, folder)
    os.truncate(path, chance.randrange(path.stat().st_size + 1))


def overwrite(chance: random.Random, folder: Path) -> None:
    """Zeros, line ends or noise over a part, as a lost block of the disk leaves it."""
    path = _file(chance, folder)
    data = bytearray(path.read_bytes())
    size = chance.choice([1, 16, 512, 4096])
    start = chance.randrange(len(data))
    noise = chance.choice([bytes(size), b"\n" * size, b"\xff" * size, chance.randbytes(size)])
    data[start : start + size] = noise
    path.write_bytes(data)


def rearrange(chance: random.Random, folder: Path) -> None:
    """Repeat, remove or reorder lines."""
    found = lines(folder)
    for _ in range(chance.choice([1, 1, 3])):
        place = chance.randrange(len(found))
        match chance.randrange(4):
            case 0:
                found.insert(place, chance.choice(found))
            case 1 if len(found) > 1:
                del found[place]
            case 2:
                other = chance.randrange(len(found))
                found[place], found[other] = found[other], found[place]
            case _:
                chance.shuffle(found)
    _write(folder, found)


def join_or_split(chance: random.Random, folder: Path) -> None:
    """Damage a line's end, or put another into its middle."""
    found = lines(folder)
    place = chance.randrange(len(found))
    if chance.random() < 0.5:
        found[place] = found[place].replace(b"\n", b" ")
    else:
        middle = chance.randrange(len(found[place]))
        found[place] = found[place][:middle] + b"\n" + found[place][middle + 1 :]
    _write(folder, found)


def wrong_types(chance: random.Random, folder: Path) -> None:
    """Give fields values of another type, or remove them; the checksum is right."""
    found, records = lines(folder), _records(folder)
    for _ in range(chance.choice([1, 1, 4])):
        place = chance.randrange(len(records))
        record = records[place]
        target: dict[str, Any] = record
        if isinstance(record.get("metrics"), list) and record["metrics"] and chance.random() < 0.5:
            target = chance.choice(record["metrics"])
        if not isinstance(target, dict) or not target:
            continue
        name = chance.choice(list(target))
        if chance.random() < 0.2:
            del target[name]
        else:
            target[name] = chance.choice(ODD_VALUES)
        found[place] = line(json.dumps(record).encode())
    _write(folder, found)


def unknown(chance: random.Random, folder: Path) -> None:
    """Record types, fields and numbers of a version that does not exist."""
    found = lines(folder)
    values = {"type": chance.choice(["colour", "batch2", "End", "", "x" * 10_000]), "value": 1}
    if chance.random() < 0.5:
        values["number"] = chance.choice([len(found), 0, -1, 10**12, 10**30, "7", 1.5, None])
    found.insert(chance.randrange(len(found) + 1), line(json.dumps(values).encode()))
    _write(folder, found)


def deep(chance: random.Random, folder: Path) -> None:
    """Nest JSON up to a million deep."""
    depth = chance.choice([50, 900, 1100, 100_000, 1_000_000])
    start, end = chance.choice([("[", "]"), ('{"a":', "}")])
    nested = start * depth + ("" if start == "[" else "1") + end * depth
    text = chance.choice(
        ["%s", '{"type":%s}', '{"type":"batch","tags":%s}', '{"type":"run","settings":%s}']
    )
    _insert(chance, folder, (text % nested).encode())


def huge_numbers(chance: random.Random, folder: Path) -> None:
    """Write numbers of up to a million digits."""
    number = chance.choice(["9" * 20, "9" * 4000, "9" * 5000, "9" * 1_000_000, "1e999", "-1e-999"])
    text = chance.choice(
        [
            '{"type":"batch","metrics":[{"key":"a","value":%s,"timestamp":1,"step":1}]}',
            '{"type":"batch","metrics":[{"key":"a","value":1,"timestamp":%s,"step":1}]}',
            '{"type":"end","status":"FINISHED","end_time":%s}',
            '{"type":"batch","number":%s}',
        ]
    )
    _insert(chance, folder, (text % number).encode())


def long_lines(chance: random.Random, folder: Path) -> None:
    """Up to 100 MB in a line, millions of values, a file of 2 GB that is mostly a hole."""
    size = chance.choice([10**5, 10**6, 7 * 10**6, 10**8])
    kind = chance.randrange(6)
    if kind == 0:
        _insert(chance, folder, b'{"type":"batch","tags":{"a":"' + b"x" * size + b'"}}')
    elif kind == 1:
        count = min(size, 8 * 10**6) // 7
        _insert(chance, folder, b'{"type":"dataset","dataset":[' + b"[[[]]]," * count + b"1]}")
    elif kind == 2:
        count = min(size, 8 * 10**6) // 3
        _insert(chance, folder, b'{"type":"batch","metrics":[' + b"{}," * count + b"1]}")
    elif kind == 3:
        with (folder / "journal.jsonl").open("ab") as file:
            file.write(b"\n" * size)
    elif kind == 4:
        os.truncate(folder / "journal.jsonl", 2**31)
    else:
        (folder / "state.json").write_bytes(b'{"run_id": "' + b"x" * min(size, 10**8) + b'"}')


def other_files(chance: random.Random, folder: Path) -> None:
    """A folder, a pipe, a link, a socket or nothing in place of a file of the journal."""
    names = ["journal.jsonl", "state.json", "lock", "artifacts", "checkpoint", "models"]
    path = folder / chance.choice(names)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    match chance.randrange(6):
        case 0:
            path.mkdir()
        case 1:
            os.mkfifo(path)
        case 2:
            path.symlink_to(chance.choice(["/dev/zero", "/etc/passwd", "nowhere", ".", path.name]))
        case 3:
            path.write_bytes(chance.choice([b"", b"\0", b"null", chance.randbytes(100)]))
        case 4:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(os.path.relpath(path))


def missing_files(chance: random.Random, folder: Path) -> None:
    """Remove or empty files and folders that records name."""
    found = [path for name in ("artifacts", "checkpoint", "models") for path in folder.glob(name)]
    path = chance.choice([path for each in found for path in (each, *each.rglob("*"))])
    if path.is_dir():
        shutil.rmtree(path)
    elif chance.random() < 0.5:
        path.unlink()
    else:
        path.write_bytes(b"")


def odd_state(chance: random.Random, folder: Path) -> None:
    """Give the state's fields other values."""
    path = folder / "state.json"
    values = json.loads(path.read_text())
    if chance.random() < 0.9:
        values.pop("checksum", None)
    for _ in range(chance.choice([1, 1, 3])):
        name = chance.choice([*values, "colour"])
        numbers = {chance.choice(["0", "3", "-1", "99", "07", "x", "9" * 5000]): "why"}
        values[name] = chance.choice([*ODD_VALUES, 3, 99, "m-1", numbers, numbers])
    path.write_text(json.dumps(values))


def _insert(chance: random.Random, folder: Path, text: bytes) -> None:
    found = lines(folder)
    place = chance.randrange(len(found) + 1)
    if chance.random() < 0.5 and place < len(found):
        found[place] = line(text)
    else:
        found.insert(place, line(text))
    _write(folder, found)


KINDS: dict[str, Damage] = {
    each.__name__: each
    for each in (
        *(flip_bits, cut, overwrite, rearrange, join_or_split, wrong_types, unknown, deep),
        *(huge_numbers, long_lines, other_files, missing_files, odd_state),
    )
}
