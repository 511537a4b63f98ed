"""Test images as small pictures that stand in a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_LONGEST_SIDE = 56
_MOST_CHARACTERS = 250_000
"""Of all pictures together: beyond, the last ones are left out."""


@dataclass(frozen=True)
class Pictures:
    """Pictures of test examples.

    Attributes:
        images: By position in the test set: a data URI, made of letters and signs that no HTML
            needs to escape.
        missing: Why there is none, or not of all, in a sentence; empty where there are all.
    """

    images: Mapping[int, str]
    missing: str = ""


def draw(images: Mapping[int, NDArray[np.uint8]]) -> Pictures:
    """Draw images as they are, large ones smaller; as many as the page has room for.

    Args:
        images: By position in the test set, the most telling first: grey levels or colours, shape
            (height, width), (height, width, 1), (height, width, 3) or with a fourth channel.
    """
    drawn: dict[int, str] = {}
    room = _MOST_CHARACTERS
    for position, pixels in images.items():
        uri = f"data:image/png;base64,{base64.b64encode(_png(pixels)).decode()}"
        room -= len(uri)
        if room < 0:
            return Pictures(drawn, "of the others, because the page would become too large.")
        drawn[position] = uri
    return Pictures(drawn)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
    # What is small stays as it is: the browser enlarges it.
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.BOX)
    written = io.BytesIO()
    image.save(written, "PNG", optimize=True)
    return written.getvalue()
