"""The names of scoring engines in registry and forms, in a module of their own so that forms import quickly."""

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
