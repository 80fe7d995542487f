"""The code of another commit, to be tried beside this one's."""

import contextlib
import subprocess
import tempfile
from collections.abc import Generator
from pathlib import Path

from tests.paths import ROOT

_NAMES_BEFORE_ROOMS = {
    "benchmarks.nights": "tests.bench_nights",
    "deployments.stack.local": "deployments.local",
    "deployments.stack.high_availability.service": "deployments.high_availability",
    "tasks.connectors.servers.local_servers": "tasks.connectors.local_servers",
    "tasks.runtime.local_services": "tasks.services",
}


def module_in(root: Path, name: str) -> str:
    """The name of a module in the code of `root`, which may be of a commit that had fewer packages."""
    path = root / name.replace(".", "/")
    return name if path.with_suffix(".py").exists() else _NAMES_BEFORE_ROOMS[name]


@contextlib.contextmanager
def code_of(commit: str) -> Generator[Path]:
    """A folder with the code of a commit; this one's where none is named."""
    if not commit:
        yield ROOT
        return
    with tempfile.TemporaryDirectory(prefix="nightshift-base-") as name:
        folder = Path(name) / "code"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True)
