"""The names of scoring engines, as they stand in the registry and in forms; apart, so that forms are read quickly."""

from typing import Literal, TypeAlias

EngineName: TypeAlias = Literal[
    "torch",
    "torch-fp32",
    "openvino",
    "openvino-int8",
    "onnx",
    "onnx-int8",
    "cascade",
    "cascade-bf16",
    "cascade-torch",
]
WantedEngine: TypeAlias = Literal["auto", EngineName]
