"""A worker that is wrong for its pool says so at once."""

import os
import subprocess
import sys

import pytest
import torch

from deployments.worker import gpu_or_why_not
from tasks.core.errors import SettingsError
from tasks.runtime.settings import Settings


def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deployments.worker", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_the_gpu_pool_needs_a_gpu_unless_told_otherwise() -> None:
    done = start("gpu", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 2
    assert "finds no GPU [deployments.worker gpu]" in done.stderr
    assert "NIGHTSHIFT_GPU_WORKER_ON_CPU=true" in done.stderr and "Traceback" not in done.stderr
    assert "on the CPU" in gpu_or_why_not(Settings(gpu_worker_on_cpu=True))
    with pytest.raises(SettingsError):
        gpu_or_why_not(Settings())


def test_a_worker_needs_a_server_and_a_pool_that_exists() -> None:
    assert "No Prefect server is configured" in start("cpu").stderr
    wrong = start("tpu")
    assert wrong.returncode == 2 and "usage: python -m deployments.worker cpu|gpu" in wrong.stderr
