"""Resolve the device and the precision, where the settings say auto."""

from typing import Literal

import torch

from tasks.core.errors import SettingsError
from tasks.core.models.params import Device, Precision


def resolve_device(device: Device) -> torch.device:
    """Return the device to use. Raises SettingsError if CUDA is requested and absent."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            "No CUDA device on this machine", "device", "choose cpu or auto, or run on the GPU pool"
        )
    use_cuda = torch.cuda.is_available() if device == "auto" else device == "cuda"
    return torch.device("cuda" if use_cuda else "cpu")


def precision_of_version(
    requested: Precision, trained: Precision, device: torch.device
) -> Literal["fp32", "bf16"]:
    """Return the precision to run a model version in.

    It is the requested one. For auto, it is fp32 if the version was trained in fp32 or fell back to it; otherwise
    `resolve_precision` decides.

    Args:
        requested: the requested precision; auto leaves it to the version.
        trained: the precision of its training; auto if unknown.
        device: where it runs; a version trained in bf16 runs in fp32 on a device that does not multiply in bf16.
    """
    return (
        "fp32" if (requested, trained) == ("auto", "fp32") else resolve_precision(requested, device)
    )


def resolve_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """Resolve auto: bf16 if the processor multiplies in it (emulation is a hundred times slower), else fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    capabilities = torch.cpu.get_capabilities()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"
