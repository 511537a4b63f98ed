"""Ways to damage a checkpoint's file, by kind; each takes a source of randomness and the file."""

from __future__ import annotations

import io
import json
import os
import random
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.damaged_journals import ODD_VALUES

Damage = Callable[[random.Random, Path], None]

BOMB_BYTES = [10**6, 10**8, 2 * 10**9]
ENTRIES = [1000, 65_000, 300_000]
LISTS = 1_000_000
_HEADER = "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }"


def _entries(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _write(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def _npy(descr: str, shape: str, data: bytes = b"", order: str = "False") -> bytes:
    text = (_HEADER % (descr, order, shape)).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def flip_bits(chance: random.Random, path: Path) -> None:
    """Flip 1 to 64 bits."""
    data = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 1, 2, 8, 64])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def flip_in_directory(chance: random.Random, path: Path) -> None:
    """Change bytes of the archive's directory."""
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\x01\x02")
    for _ in range(chance.choice([1, 2, 8])):
        data[chance.randrange(start, len(data))] = chance.randrange(256)
    path.write_bytes(data)


def cut(chance: random.Random, path: Path) -> None:
    """Cut the end off."""
    os.truncate(path, chance.randrange(path.stat().st_size))


def overwrite(chance: random.Random, path: Path) -> None:
    """Zeros or noise over a part."""
    data = bytearray(path.read_bytes())
    size, start = chance.choice([1, 512, 4096]), chance.randrange(len(data))
    data[start : start + size] = chance.choice([bytes(size), chance.randbytes(size)])
    path.write_bytes(data)


@cache
def _packed_zeros(size: int) -> tuple[bytes, int]:
    """Return them, and their checksum."""
    packer, packed, checksum = zlib.compressobj(9, zlib.DEFLATED, -15), [], 0
    for _ in range(size // 10**6):
        packed.append(packer.compress(bytes(10**6)))
        checksum = zlib.crc32(bytes(10**6), checksum)
    return b"".join([*packed, packer.flush()]), checksum


def bomb(chance: random.Random, path: Path) -> None:
    """Packed zeros of up to 2 GB."""
    entries = _entries(path)
    name = chance.choice(list(entries))
    size = chance.choice(BOMB_BYTES)
    data, checksum = _packed_zeros(size)
    entries[name] = b"here"
    _write(path, entries)
    # A stored entry that is said to be a packed one, with the sizes and checksum of the latter.
    stored = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
        start = info.header_offset + 30 + len(name)
        extra = struct.unpack("<H", stored[info.header_offset + 28 : info.header_offset + 30])[0]
    head, tail = bytearray(stored[: start + extra]), bytearray(stored[start + extra + 4 :])
    sizes = struct.pack("<III", checksum, len(data), size)
    head[info.header_offset + 8 : info.header_offset + 10] = struct.pack("<H", 8)
    head[info.header_offset + 14 : info.header_offset + 26] = sizes
    place = tail.index(b"PK\x01\x02")
    while tail[place + 46 : place + 46 + len(name)] != name.encode():
        place = tail.index(b"PK\x01\x02", place + 4)
    tail[place + 10 : place + 12] = struct.pack("<H", 8)
    tail[place + 16 : place + 28] = sizes
    moved = len(data) - 4
    for entry in _directory(tail):
        offset = struct.unpack("<I", tail[entry + 42 : entry + 46])[0]
        if offset > info.header_offset:
            tail[entry + 42 : entry + 46] = struct.pack("<I", offset + moved)
    end = tail.rindex(b"PK\x05\x06")
    begin = struct.unpack("<I", tail[end + 16 : end + 20])[0]
    tail[end + 16 : end + 20] = struct.pack("<I", begin + moved)
    path.write_bytes(bytes(head) + data + bytes(tail))


def _directory(tail: bytearray) -> list[int]:
    found, place = [], tail.find(b"PK\x01\x02")
    while place >= 0:
        found.append(place)
        place = tail.find(b"PK\x01\x02", place + 4)
    return found


def packed(chance: random.Random, path: Path) -> None:
    """Pack the arrays."""
    methods = [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    _write(path, _entries(path), chance.choice(methods))


def hole(chance: random.Random, path: Path) -> None:
    """A file of 2 GB that is mostly a hole, before, behind or within the archive."""
    data = path.read_bytes()
    place = chance.choice([0, len(data), chance.randrange(len(data))])
    with path.open("wb") as file:
        file.write(data[:place])
        file.seek(2 * 10**9, os.SEEK_CUR)
        file.write(data[place:])
        file.truncate(max(file.tell(), 2 * 10**9))


def huge_declarations(chance: random.Random, path: Path) -> None:
    """Declare shapes and types of any size."""
    entries = _entries(path)
    name = chance.choice(list(entries))
    shape = chance.choice(
        [
            *("(1000000000000,)", "(65536, 65536, 65536)", "(0, 10000000000000000000)", "(-1,)"),
            *("(1,)", f"({'1,' * 500})", "9" * 4000, "(9" + "0" * 5000 + ",)", "(2000000000,)"),
            *("'a'", "[3]"),
        ]
    )
    descr = chance.choice(["<f4", "|u1", "|O", "<M8[ns]", "|V8", "<U2000000000", "f8,f8", "("])
    order = chance.choice(["False", "True", "None", "[" * 300 + "]" * 300])
    entries[name] = _npy(descr, shape, chance.randbytes(chance.choice([0, 4, 100])), order)
    _write(path, entries)


def other_arrays(chance: random.Random, path: Path) -> None:
    """Arrays that are missing, pickled, of another version, swapped, or not NumPy's."""
    entries = _entries(path)
    name, other = chance.choice(list(entries)), chance.choice(list(entries))
    pickled = io.BytesIO()
    np.save(pickled, np.array([{"a": 1}], object), allow_pickle=True)
    match chance.randrange(6):
        case 0:
            del entries[name]
        case 1:
            entries[name] = pickled.getvalue()
        case 2:
            entries[name] = entries[name].replace(b"\x93NUMPY\x01", b"\x93NUMPY\x07")
        case 3:
            entries[name], entries[other] = entries[other], entries[name]
        case 4:
            entries[name] = chance.choice([b"", b"\x93NUMPY", chance.randbytes(200)])
        case _:
            entries = {f"folder/../{name}": data for name, data in entries.items()}
    _write(path, entries)


def odd_meta(chance: random.Random, path: Path) -> None:
    """Give the fields of the description other values, or remove them."""
    entries = _entries(path)
    start = entries["meta.npy"].index(b"\n") + 1
    meta: dict[str, Any] = json.loads(entries["meta.npy"][start:])
    places: list[dict[str, Any]] = [meta, meta["progress"], meta["random_state"]]
    target = chance.choice(places)
    name = chance.choice(list(target))
    if chance.random() < 0.2:
        del target[name]
    elif name in ("python", "numpy", "counts", "types") and chance.random() < 0.6:
        values = target[name]
        values[chance.randrange(len(values))] = chance.choice(ODD_VALUES)
    else:
        target[name] = chance.choice(ODD_VALUES)
    _set_meta(path, entries, json.dumps(meta).encode())


def odd_json(chance: random.Random, path: Path) -> None:
    """Put something else in place of the description."""
    depth = chance.choice([900, 1100, 100_000, 1_000_000])
    text = chance.choice(
        [
            *(b"", b"null", b"[]", b"\xff\xfe", b"{}", b"9" * 5000, b"\0" * 100),
            *(b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth),
            *(b"[" + b"[[[]]]," * LISTS + b"1]", b'{"format":1,"settings":' + b"[" * depth),
        ]
    )
    _set_meta(path, _entries(path), text)


def _set_meta(path: Path, entries: dict[str, bytes], text: bytes) -> None:
    entries["meta.npy"] = _npy("|u1", f"({len(text)},)", text)
    _write(path, entries)


def many_entries(chance: random.Random, path: Path) -> None:
    """A directory of up to 300,000 entries, or entries that lie on one another."""
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    begin = data.index(b"PK\x01\x02")
    one = bytes(data[begin : _directory(data)[1]])
    count = chance.choice(ENTRIES)
    directory = bytes(data[begin:end]) + one * count
    tail = bytearray(data[end:])
    tail[8:12] = struct.pack("<HH", min(count, 65_535), min(count, 65_535))
    tail[12:16] = struct.pack("<I", len(directory))
    path.write_bytes(bytes(data[:begin]) + directory + bytes(tail))


def another_file(chance: random.Random, path: Path) -> None:
    """A folder, a pipe, a link, a socket, or a file of another kind."""
    path.unlink()
    match chance.randrange(7):
        case 0:
            path.mkdir()
        case 1:
            os.mkfifo(path)
        case 2:
            path.symlink_to(chance.choice(["/dev/zero", "/dev/full", "nowhere", path.name]))
        case 3:
            path.write_bytes(
                chance.choice([b"", b"PK\x05\x06" + bytes(18), chance.randbytes(5000)])
            )
        case 4:
            with path.open("wb") as file:
                np.save(file, np.zeros(10))
        case 5:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(os.path.relpath(path))
        case _:
            path.write_bytes(_npy("<f4", "(1000000000000,)"))


KINDS: dict[str, Damage] = {
    each.__name__: each
    for each in (
        *(flip_bits, flip_in_directory, cut, overwrite, bomb, packed, hole, huge_declarations),
        *(other_arrays, odd_meta, odd_json, many_entries, another_file),
    )
}
