"""Provenance: the code version and the flow run that made something."""

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from prefect.runtime import flow_run


def code_version() -> str:
    """Return the git commit of this checkout, with suffix '-dirty' if it has changes, else the installed version."""
    root = Path(__file__).parents[2]
    if (root / ".git").exists():
        try:
            described = subprocess.run(
                ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
                cwd=root, capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=30,
            )  # fmt: skip
            return described.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass  # no git here; the version is less exact
    try:
        return version("nightshift")
    except PackageNotFoundError:
        return "unknown"


def flow_run_id() -> str:
    """Return the id of the current Prefect flow run, or '' outside of one."""
    return str(flow_run.id or "")
