"""The machine that figures refer to: its description, its allocator, and its speed in matrix products.

Needs only torch, so that a bare GPU machine can run it.
"""

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("torch", "transformers", "openvino", "onnxruntime", "ctranslate2", "nightshift")
_SIZES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192)}  # the best size differs
_QUICK_SIZES = {"cpu": (128,), "cuda": (1024,)}


def describe() -> dict[str, Any]:
    """Describe processor, threads, allocator and versions of this process; `load` shows other work on the machine."""
    found = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": _instructions(),
        "memory_gb": _memory_gb(),
        "allocator": allocator(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": versions(),
        "load": [round(v, 1) for v in os.getloadavg()] if hasattr(os, "getloadavg") else [],
    }
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        found |= {"gpu": card.name, "gpu_memory_gb": round(card.total_memory / 1e9, 1)}
    return found


def allocator() -> str:
    """Return tcmalloc or jemalloc if one is preloaded, else the C library's allocator."""
    preloaded = os.environ.get("LD_PRELOAD", "")
    known = [name for name in ("tcmalloc", "jemalloc", "mimalloc") if name in preloaded]
    return known[0] if known else (platform.libc_ver()[0] or "the C library's")


def versions(packages: tuple[str, ...] = _PACKAGES) -> dict[str, str]:
    """Return the versions of the installed packages."""
    found: dict[str, str] = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def peaks(device: str = "cpu", quick: bool = False) -> dict[str, float]:
    """Measure GFLOP/s (int8: GOP/s) of square matrix products in torch: the best of several sizes and repetitions.

    A precision that the machine or torch does not support is omitted. On CUDA int8 is not measured, and fp32 is torch's
    default, without TF32.
    """
    found: dict[str, float] = {}
    for name, product in _products(device).items():
        try:
            speeds = [
                _best(lambda n=n, p=product: p(n), 2 * n**3, device, quick)
                for n in (_QUICK_SIZES if quick else _SIZES)[device]
            ]
        except (RuntimeError, AttributeError, NotImplementedError):
            continue
        found[name] = round(max(speeds), 1)
    return found


def _products(device: str) -> dict[str, Callable[[int], Callable[[], Any]]]:
    """Return by precision a function that prepares a product of n x n matrices."""

    def floats(n: int, dtype: torch.dtype) -> Callable[[], Any]:
        a = torch.randn(n, n, device=device, dtype=dtype)
        return lambda: a @ a

    def integers(n: int) -> Callable[[], Any]:
        a = torch.randint(-127, 127, (n, n), dtype=torch.int8)
        return lambda: torch._int_mm(a, a)

    products: dict[str, Callable[[int], Callable[[], Any]]] = {
        "fp32": lambda n: floats(n, torch.float32),
        "bf16": lambda n: floats(n, torch.bfloat16),
    }
    return products | ({"int8": integers} if device == "cpu" else {})


def _best(
    prepare: Callable[[], Callable[[], Any]], operations: int, device: str, quick: bool
) -> float:
    product = prepare()
    product()
    best = float("inf")
    until = time.perf_counter() + (0.02 if quick else 1.0)
    while time.perf_counter() < until:
        _wait(device)
        started = time.perf_counter()
        product()
        _wait(device)
        best = min(best, time.perf_counter() - started)
    return operations / best / 1e9


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _instructions() -> list[str]:
    """Return the instruction sets that matrix products depend on."""
    wanted = ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "bf16")
    capabilities = torch.cpu.get_capabilities()
    return [name for name in wanted if capabilities.get(name)]


def _memory_gb() -> float:
    if not hasattr(os, "sysconf"):
        return 0.0
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
