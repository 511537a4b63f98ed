"""Headers whose numbers no array has: refused in words, whatever Python makes of them."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest

from fm_mlflow.data.idx import read_idx
from fm_mlflow.data.npy import read_npy_header
from fm_mlflow.errors import DataError


@pytest.mark.parametrize("shape", [f"(0x{'f' * 9000}, 28, 28)", f"(0x{'f' * 9000},)", "(-1, 28)"])
def test_an_axis_of_thousands_of_digits(shape: str) -> None:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
    with pytest.raises(ValueError, match=r"axes that no array has|a header of"):
        read_npy_header(io.BytesIO(header))


@pytest.mark.parametrize("shape", [(0, 2**32 - 1, 2**32 - 1), (2**32 - 1, 0, 2**32 - 1)])
def test_an_empty_idx_file_of_huge_axes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "images"
    path.write_bytes(b"\x00\x00\x08\x03" + struct.pack(">3I", *shape))
    with pytest.raises(DataError, match="axes that no array has"):
        read_idx(path, repair="delete it", largest=100)
