"""Files that somebody damaged, or made to damage whoever reads them; and random damage to others.

Each of `KINDS` has a valid file and cases that are none, by name; a case is made when it is
called, since some are large. `benchmarks/fuzz.py` and the tests share them.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np

DIGITS = "9" * 4400
"""More digits than Python converts to a number."""

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 5, 4), np.uint8)

Case = Callable[[], bytes]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: What it is called where it lies.
        valid: One that is accepted.
        cases: Those that are refused, by what is wrong with them.
    """

    name: str
    valid: bytes
    cases: Mapping[str, Case] = field(default_factory=dict)


def mutated(draw: random.Random, content: bytes) -> bytes:
    """Return contents with random damage: bytes flipped, cut, repeated, replaced by extremes."""
    data = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 5, 20])):
        at = draw.randrange(len(data) + 1)
        length = draw.choice([1, 2, 4, 8, 64])
        match draw.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 1:
                del data[at:]
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = draw.randbytes(length)
            case 4:
                extreme = draw.choice([b"\0", b"\xff", b"\x7f", b"\x80"])
                data[at : at + length] = extreme * length
            case 5:
                data[at:at] = data[at : at + 16 * length] * draw.choice([1, 2, 50])
            case _:
                data[at:at] = draw.choice(_TOKENS)
    return bytes(data)


_TOKENS = (
    *(b"[" * 2000, b'{"a":' * 2000, b"&a ", b"*a", b"- ", b"\n", b'"', b",", b"\0", b"\xff\xfe"),
    *(DIGITS.encode(), b"-1", b"1e999", b"NaN", b"null", b"{}", b"!!python/object:os.system "),
)


def idx(shape: tuple[int, ...], values: bytes) -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + values


_IDX = idx(IMAGES.shape, IMAGES.tobytes())
_GZIP = gzip.compress(_IDX, mtime=0)
_MOST = 2**32 - 1
_MB = 1_000_000


def gzip_bomb(total: int, start: bytes = b"") -> bytes:
    """Return a gzip file of `start` and then at least so many zeros, in no time.

    It ends in a wrong checksum, if anybody comes so far.
    """

    blocks = _deflated(start) + _zeros() * -(-total // (1 << 24))
    return GZIP_HEADER + blocks + EMPTY_BLOCK + bytes(8)


def _deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush(zlib.Z_FULL_FLUSH)


@cache
def _zeros() -> bytes:
    return _deflated(bytes(1 << 24))


GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
EMPTY_BLOCK = b"\x03\x00"
"""The last one of a file."""


def _flag(content: bytes, flags: int) -> bytes:
    return content[:3] + bytes([flags]) + content[4:]


_IDX_CASES: dict[str, Case] = {
    "empty": lambda: b"",
    "not IDX": lambda: b"<html>sign in</html>",
    "truncated": lambda: _IDX[:-1],
    "truncated in its header": lambda: _IDX[:9],
    "longer than its header says": lambda: _IDX + b"\0",
    "no axes": lambda: idx((), b""),
    "255 axes": lambda: idx((2,) * 255, b"\0\0"),
    "a size over int64": lambda: idx((_MOST,) * 3, bytes(100)),
    "a size that overflows int64 to what is there": lambda: idx((2**31, 2**31, 4), b""),
    "large with little in it": lambda: idx((60_000, 28, 28), bytes(1000)),
    "no images": lambda: idx((0, 28, 28), b""),
}
_GZIP_CASES: dict[str, Case] = {
    "wrong checksum": lambda: _GZIP[:-8] + bytes(4) + _GZIP[-4:],
    "wrong length": lambda: _GZIP[:-4] + bytes(4),
    "bytes after its end": lambda: _GZIP + b"more",
    "a member after its end": lambda: _GZIP + gzip.compress(b"more"),
    "more than its header says": lambda: gzip.compress(_IDX + b"\0"),
    "truncated": lambda: _GZIP[:-9],
    "without its checksum": lambda: _GZIP[:-8],
    "truncated at 12": lambda: _GZIP[:12],
    "corrupted": lambda: _GZIP[:20] + bytes(30) + _GZIP[50:],
    "an odd method": lambda: _GZIP[:2] + b"\x07" + _GZIP[3:],
    "a name without end": lambda: _flag(_GZIP, 8)[:10] + b"x" * 100_000,
    "3 GB of zeros behind a small header": lambda: gzip_bomb(3 << 30, _IDX),
    "3 GB of zeros behind their header": lambda: gzip_bomb(3 << 30, idx((4_000_000, 28, 28), b"")),
    "a size over int64": lambda: gzip.compress(idx((_MOST,) * 3, bytes(100))),
    "zeros after its end": lambda: _GZIP + bytes(2 << 20),
    "an empty member before it": lambda: gzip.compress(b"") + _GZIP,
    "zeros that make it large": lambda: (
        gzip_bomb(90 << 20, idx((90 << 10, 32, 32), b"")) + bytes(_MB)
    ),
    "a comment of 2 MB": lambda: _flag(_GZIP, 16)[:10] + b"x" * (2 * _MB) + b"\0" + _GZIP[10:],
    "2 MB of empty blocks": lambda: GZIP_HEADER + b"\0\0\0\xff\xff" * (_MB // 2) + _GZIP[10:],
    "packed twice": lambda: gzip.compress(_GZIP),
    "10,000 empty members": lambda: gzip.compress(_IDX) + gzip.compress(b"") * 10_000 + b"x",
}


def npy(header: str, values: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    text = header.encode("latin1") + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + values


def _array(shape: str, descr: str = "'|u1'", values: bytes = b"", order: str = "False") -> bytes:
    return npy(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}", values)


def saved(array: object) -> bytes:
    content = io.BytesIO()
    np.save(content, np.asanyarray(array))
    return content.getvalue()


_NPY = saved(IMAGES)
_NPY_CASES: dict[str, Case] = {
    "truncated": lambda: _NPY[:-1],
    "truncated in its header": lambda: _NPY[:40],
    "longer than its header says": lambda: _NPY + b"\0",
    "version 3": lambda: _NPY[:6] + b"\x03" + _NPY[7:],
    "a header of 4 GB": lambda: b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(1000),
    "a header that is nested": lambda: npy("(" * 3000),
    "a header of signs": lambda: npy("-" * 3000 + "1"),
    "a header of other names": lambda: npy("{'descr': '|u1'}"),
    "objects": lambda: saved(np.array([{}], object)),
    "records": lambda: saved(np.zeros(3, [("a", "f4")])),
    "whole numbers": lambda: saved(np.zeros((3, 4, 4), np.int64)),
    "column by column": lambda: saved(np.asfortranarray(IMAGES)),
    "a size over int64": lambda: _array("(9223372036854775808, 9, 9)"),
    "an axis below 0": lambda: _array("(-3, 4, 4)"),
    "an axis of many digits": lambda: _array(f"({DIGITS}, 4, 4)"),
    "large with little in it": lambda: _array("(100000, 1000, 1000)"),
    "a value of 8 EB": lambda: _array("(3, 4, 4)", "'|V9223372036854775807'"),
}


def npz(
    label: object,
    probability: object,
    method: int = zipfile.ZIP_DEFLATED,
    comment: bytes = b"",
    names: tuple[str, str] = ("label", "probability"),
) -> bytes:
    """Return an archive of two arrays; bytes are taken as the contents of a .npy file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method, compresslevel=1) as archive:
        for name, array in zip(names, (label, probability), strict=True):
            archive.writestr(f"{name}.npy", array if isinstance(array, bytes) else saved(array))
        archive.comment = comment
    return content.getvalue()


LABEL = np.arange(30) % 10
PROBABILITY = np.eye(10, dtype=np.float32)[LABEL]
_NPZ = npz(LABEL, PROBABILITY)


def _patched(content: bytes, offset: int, value: bytes) -> bytes:
    """Return an archive with a field of each entry of its directory replaced."""
    data = bytearray(content)
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        data[at + offset : at + offset + len(value)] = value
        at = content.find(b"PK\x01\x02", at + 4)
    return bytes(data)


def _many_entries() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for number in range(20_000):
            archive.writestr(str(number), b"")
    return content.getvalue()


def npz_bomb(total: int) -> bytes:
    """Return honest arrays of so many bytes of zeros, packed some hundred times."""
    count = total // 11
    zeros = np.zeros((count, 10), np.uint8)
    return npz(np.zeros(count, np.uint8), zeros)


_NPZ_CASES: dict[str, Case] = {
    "empty": lambda: b"",
    "an array": lambda: saved(PROBABILITY),
    "truncated": lambda: _NPZ[: len(_NPZ) // 2],
    "without its directory": lambda: _NPZ[:-80],
    "corrupted": lambda: _NPZ[:60] + bytes(20) + _NPZ[80:],
    "encrypted": lambda: _patched(_NPZ, 8, b"\x01\x00"),
    "packed by bzip2": lambda: npz(LABEL, PROBABILITY, zipfile.ZIP_BZIP2),
    "packed by lzma": lambda: npz(LABEL, PROBABILITY, zipfile.ZIP_LZMA),
    "packed by an unknown method": lambda: _patched(_NPZ, 10, b"\x63\x00"),
    "a directory that lies about sizes": lambda: _patched(_NPZ, 24, b"\xff\xff\xff\x7f"),
    "a directory of 20,000 entries": _many_entries,
    "a directory of 4 GB": lambda: _NPZ[:-10] + b"\xff\xff\xff\xff" + _NPZ[-6:],
    "other names": lambda: npz(LABEL, PROBABILITY).replace(b"label", b"lable"),
    "one axis": lambda: npz(LABEL, LABEL),
    "of other lengths": lambda: npz(LABEL[:-1], PROBABILITY),
    "labels that are fractions": lambda: npz(LABEL / 2, PROBABILITY),
    "labels out of range": lambda: npz(LABEL + 1, PROBABILITY),
    "labels below 0": lambda: npz(LABEL - 1, PROBABILITY),
    "objects": lambda: npz(LABEL, PROBABILITY.astype(object)),
    "words": lambda: npz(LABEL, PROBABILITY.astype(str)),
    "a huge shape": lambda: npz(LABEL, _array("(1000000000000, 10)", "'<f4'")),
    "a size over int64": lambda: npz(LABEL, _array("(9223372036854775808, 9223372036854775808)")),
    "no classes": lambda: npz(LABEL, _array("(30, 0)")),
    "no axes": lambda: npz(_array("()", values=b"\0"), _array("()", values=b"\0")),
    "20,000 classes": lambda: npz(LABEL[:2], np.zeros((2, 20_000), np.float32)),
    "2,000,000 images": lambda: npz_bomb(22_000_000),
    "300 MB of zeros": lambda: npz_bomb(300 << 20),
    "a header of 4 GB": lambda: npz(LABEL, b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(1 << 20)),
    "a header that is nested": lambda: npz(LABEL, npy("(" * 3000)),
}


def _measurements(*more: object, **changed: object) -> bytes:
    first = {"name": "latency/p50_ms", "value": 0.3, "unit": "ms", "method": "median", **changed}
    document = {"format": 1, "machine": {}, "measurements": [first, *more]}
    return json.dumps(document).encode()


_JSON_CASES: dict[str, Case] = {
    "empty": lambda: b"",
    "truncated": lambda: _measurements()[:-9],
    "a list": lambda: b"[1]",
    "nothing": lambda: b"{}",
    "a number for the list": lambda: b'{"measurements": 3}',
    "a number in the list": lambda: _measurements(3),
    "no name": lambda: _measurements({"value": 1}),
    "a name that is a list": lambda: _measurements(name=["a"]),
    "a value that is text": lambda: _measurements(value="0.3"),
    "a value that is a list": lambda: _measurements(value=[[[]]]),
    "a method that is a list": lambda: _measurements(method=["a", ["b"]]),
    "a reason that is a mapping": lambda: _measurements(value=None, reason={"a": {}}),
    "an interval of three": lambda: _measurements(interval=[1, 2, 3]),
    "an interval of words": lambda: _measurements(interval=["a", "b"]),
    "not a number": lambda: _measurements(value=float("nan")),
    "100,000 deep": lambda: b"[" * 100_000,
    "900 deep": lambda: b'{"measurements":' + b"[" * 900 + b"]" * 900 + b"}",
    "4,400 digits": lambda: _measurements(value=0).replace(b": 0,", b": " + DIGITS.encode() + b","),
    "1,000 digits": lambda: _measurements(value=10**1000),
    "a text of 100,000": lambda: _measurements(method="m" * 100_000),
    "2,000 measurements": lambda: _measurements(*[{"name": "a", "value": 1}] * 2000),
    "2 MB": lambda: _measurements() + b" " * (2 << 20),
    "not UTF-8": lambda: _measurements()[:-2] + b"\xff\xfe",
}

_LAYERS = b"layer,type,parameters,forward_flops\r\ndense,Dense,10,20\r\n"
_CSV_CASES: dict[str, Case] = {
    "a short row": lambda: _LAYERS + b"conv\r\n",
    "a long row": lambda: _LAYERS + b"a,b,c,d,e,f\r\n",
    "a field of 200,000": lambda: _LAYERS + b"a," + b"T" * 200_000 + b",1,2\r\n",
    "a type of 1,000": lambda: _LAYERS + b"a," + b"T" * 1000 + b",1,2\r\n",
    "1,000 types": lambda: _LAYERS + b"".join(b"a,T%d,1,2\n" % n for n in range(1000)),
    "100,000 rows": lambda: b"type\n" + b"a\n" * 100_000,
    "a quotation without end": lambda: _LAYERS + b'a,"Dense,1,2\r\n',
    "2 MB": lambda: _LAYERS * 40_000,
    "not UTF-8": lambda: _LAYERS + b"a,\xff,1,2\r\n",
}

_MODEL = b"""\
flavors:
  tensorflow: {model_type: keras}
metadata:
  class_names: [T-shirt/top, Trouser, '2']
"""


def _laughs(pattern: bytes, levels: int = 9) -> bytes:
    """Return YAML in which each level names the one before nine times."""
    lines = [b"a0: &a0 " + (b"{k: v}" if b"<<" in pattern else b"[ha, ha]")]
    for level in range(1, levels):
        names = b", ".join([b"*a%d" % (level - 1)] * 9)
        lines.append(b"a%d: &a%d " % (level, level) + pattern.replace(b"NAMES", names))
    return b"\n".join(lines)


_YAML_CASES: dict[str, Case] = {
    "aliases": lambda: _laughs(b"[NAMES]") + b"\nmetadata: {class_names: *a8}\n",
    "merged aliases": lambda: _laughs(b"{<<: [NAMES]}") + b"\nmetadata: *a8\n",
    "an alias of itself": lambda: b"metadata: &m\n  class_names: [*m]\n",
    "100,000 deep": lambda: b"[" * 100_000,
    "400 deep": lambda: b"metadata: {class_names: " + b"[" * 400 + b"]" * 400 + b"}",
    "names that are lists": lambda: b"metadata: {class_names: [[a, b], [c]]}",
    "20,000 class names": lambda: b"metadata: {class_names: [" + b"a," * 20_000 + b"]}",
    "a name of 10,000": lambda: b"metadata: {class_names: [" + b"a" * 10_000 + b", b]}",
    "a number of 4,400 digits": lambda: b"metadata: {class_names: [" + DIGITS.encode() + b"]}",
    "a number to base 60": lambda: b"metadata: {class_names: [" + b"1:" * 100_000 + b"1]}",
    "a prefix of tags": lambda: (
        b"%TAG !e! " + b"x" * 90_000 + b"\n---\n[" + b"!e!a 1," * 9000 + b"]"
    ),
    "an object": lambda: b"metadata: !!python/object/apply:os.getpid []\n",
    "a date that is none": lambda: b"metadata: {class_names: [2020-99-99]}",
    "two documents": lambda: _MODEL + b"---\na: 1\n",
    "a list": lambda: b"- 1\n",
    "metadata that is text": lambda: b"metadata: none\n",
    "a mapping as a key": lambda: b"metadata: {{a: b}: c}\n",
    "tabs": lambda: b"metadata:\n\tclass_names: [a]\n",
    "2 MB": lambda: _MODEL + b"# \n" * 700_000,
    "not UTF-8": lambda: _MODEL + b"\xff\n",
    "NUL": lambda: _MODEL + b"a: \0\n",
}

KINDS: dict[str, Kind] = {
    "IDX": Kind("images", _IDX, _IDX_CASES),
    "IDX, gzip": Kind("images.gz", _GZIP, _GZIP_CASES),
    ".npy": Kind("images.npy", _NPY, _NPY_CASES),
    "predictions": Kind("predictions/test.npz", _NPZ, _NPZ_CASES),
    "measurements": Kind("measurements.json", _measurements(), _JSON_CASES),
    "layers": Kind("flops/layers.csv", _LAYERS, _CSV_CASES),
    "model": Kind("MLmodel", _MODEL, _YAML_CASES),
}
