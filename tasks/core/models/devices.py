"""The device and the precision to compute in, where the settings leave it to the machine."""

from typing import Literal

import torch

from tasks.core.errors import SettingsError
from tasks.core.models.params import Device, Precision


def resolve_device(device: Device) -> torch.device:
    """The device to use. Raises SettingsError when CUDA is asked for and absent."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            "No CUDA device on this machine", "device", "choose cpu or auto, or run on the GPU pool"
        )
    use_cuda = torch.cuda.is_available() if device == "auto" else device == "cuda"
    return torch.device("cuda" if use_cuda else "cpu")


def precision_of_version(
    asked: Precision, trained: Precision, device: torch.device
) -> Literal["fp32", "bf16"]:
    """The precision that a version is run in: what is asked for; else fp32, where it was trained or fell back to that.

    Args:
        asked: by whoever runs it; auto leaves it to the version.
        trained: what it was trained in; auto where that is not known.
        device: where it runs; a version that was trained in bf16 runs in fp32 on what does not multiply in bf16.
    """
    return "fp32" if (asked, trained) == ("auto", "fp32") else resolve_precision(asked, device)


def resolve_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """bf16 where the processor multiplies in it (without, it is emulated and a hundred times slower), else fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    capabilities = torch.cpu.get_capabilities()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"
