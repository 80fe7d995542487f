"""Start a worker of a pool: `python -m deployments.worker cpu` or `gpu`.

It becomes Prefect's own worker; before that it is checked that the machine is fit for the pool, so that a wrong one
says so at once and not when the first training has waited for its turn.
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
# Runs at once a worker: a GPU has one training; on the CPU pool a retrain run mostly waits, for that or for a person,
# and must not keep the nightly scoring or a rollback from their turn.
_LIMITS = {"cpu": 12, "gpu": 1}


def main(arguments: list[str] | None = None) -> int:
    """Become the worker; returns only when it cannot."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1 or given[0] not in POOLS:
        print(f"usage: python -m deployments.worker {'|'.join(POOLS)}", file=sys.stderr)
        return 2
    (pool,) = given
    set_client_defaults()
    os.umask(PRIVATE_UMASK)  # of its flow runs as well
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
    """What the pool's trainings will run on.

    Raises:
        SettingsError: no GPU is here, and nobody said that a CPU will do.
    """
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    if settings.gpu_worker_on_cpu:
        return "no GPU here, trainings run on the CPU (NIGHTSHIFT_GPU_WORKER_ON_CPU)"
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA: a CPU build"
    raise SettingsError(
        f"This worker is for the GPU pool, and torch {torch.__version__} ({built}) finds no GPU",
        "deployments.worker gpu",
        "start it on a machine with a GPU and torch's default build (make TORCH=default env); if training on the CPU "
        "is fine, set NIGHTSHIFT_GPU_WORKER_ON_CPU=true",
    )


if __name__ == "__main__":
    sys.exit(main())
