"""What numbers a model computes with."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
"""A dtype policy of Keras; with a mixed one, weights and optimizer stay float32."""

FULL: Precision = "float32"

PRECISION: Precision = Field(
    FULL,
    description="Keras dtype policy that the model is built with; mixed: layers compute in 16 "
    "bits, weights stay float32.",
)
