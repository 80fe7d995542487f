"""One training a GPU at a time; played with files, as the lock knows no GPU."""

import tempfile
import threading
from pathlib import Path

import pytest
import torch

from tasks.training import gpu_lock
from tasks.training.gpu_lock import acquire_gpu

GPU = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(gpu_lock, "PROGRESS_SECONDS", 0.05)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def other_gets_in(device: torch.device) -> bool:
    """Whether another training could begin within a moment."""
    inside = threading.Event()

    def train() -> None:
        with acquire_gpu(device):
            inside.set()

    threading.Thread(target=train, daemon=True).start()
    return inside.wait(0.5)


def test_the_second_waits_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with acquire_gpu(GPU):
        assert not other_gets_in(GPU)
    assert "another training on this machine is using it" in caplog.text
    assert other_gets_in(GPU)


def test_other_gpus_and_the_cpu_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with acquire_gpu(GPU):
        assert other_gets_in(torch.device("cuda", 1))
        assert other_gets_in(torch.device("cpu"))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")  # whose first is another card
        assert other_gets_in(GPU)
