"""Start a worker of a pool: `python -m deployments.worker cpu` or `gpu`.

The process becomes Prefect's own worker. Before that it checks that the machine is suitable for the pool, so that a
wrong machine is reported at once and not when the first training starts.
"""

import os
import socket
import sys

from tasks.connectors.private_files import PRIVATE_UMASK
from tasks.connectors.servers.local_servers import require_no_password
from tasks.core.errors import NightshiftError, SettingsError
from tasks.runtime.local_services import require_login, set_client_defaults
from tasks.runtime.settings import Settings, read_settings

POOLS = ("cpu", "gpu")
# Concurrent runs per worker: a GPU has one training; on the CPU pool a retrain run mostly waits, for that or for a
# person, and must not delay the nightly scoring or a rollback.
_LIMITS = {"cpu": 12, "gpu": 1}


def main(arguments: list[str] | None = None) -> int:
    """Become the worker; return only on failure."""
    words = sys.argv[1:] if arguments is None else arguments
    if len(words) != 1 or words[0] not in POOLS:
        print(f"usage: python -m deployments.worker {'|'.join(POOLS)}", file=sys.stderr)
        return 2
    (pool,) = words
    set_client_defaults()
    os.umask(PRIVATE_UMASK)  # also applies to its flow runs
    try:
        settings = read_settings()
        if not settings.prefect_api_url:
            raise SettingsError(
                "No Prefect server is configured", "PREFECT_API_URL", "set it, or use `make up`"
            )
        require_no_password(settings.prefect_api_url)
        require_login(settings)
        if pool == "gpu":
            print(f"Pool 'gpu': {gpu_or_why_not(settings)}", flush=True)
    except NightshiftError as error:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    os.execv(sys.executable, [sys.executable, "-m", "prefect", *_arguments(pool)])


def _arguments(pool: str) -> list[str]:
    name = f"{socket.gethostname()}-{pool}-{os.getpid()}"
    return ["worker", "start", "--pool", pool, "--name", name, "--limit", str(_LIMITS[pool])]


def gpu_or_why_not(settings: Settings) -> str:
    """Return the device that the pool's trainings will run on.

    Raises:
        SettingsError: there is no GPU, and no setting allows a CPU.
    """
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    if settings.gpu_worker_on_cpu:
        return "no GPU here, trainings run on the CPU (NIGHTSHIFT_GPU_WORKER_ON_CPU)"
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA: a CPU build"
    raise SettingsError(
        f"This worker is for the GPU pool, but torch {torch.__version__} ({built}) finds no GPU",
        "deployments.worker gpu",
        "start it on a machine with a GPU and torch's default build (make TORCH=default env); if training on the CPU "
        "is fine, set NIGHTSHIFT_GPU_WORKER_ON_CPU=true",
    )


if __name__ == "__main__":
    sys.exit(main())
