"""The device and the precision to compute in, where the settings leave it to the machine."""

from typing import Literal

import torch

from tasks.core.errors import SettingsError
from tasks.core.training_params import Device, Precision


def resolve_device(device: Device) -> torch.device:
    """The device to use. Raises SettingsError when CUDA is asked for and absent."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            "No CUDA device on this machine", "device", "choose cpu or auto, or run on the GPU pool"
        )
    use_cuda = torch.cuda.is_available() if device == "auto" else device == "cuda"
    return torch.device("cuda" if use_cuda else "cpu")


def resolve_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """bf16 where the processor multiplies in it (without, it is emulated and a hundred times slower), else fp32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    capabilities = torch.cpu.get_capabilities()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"
