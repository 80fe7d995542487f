"""The types of the device and precision settings."""

from typing import Literal, TypeAlias

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
Precision: TypeAlias = Literal["auto", "fp32", "bf16"]
