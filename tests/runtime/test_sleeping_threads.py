"""Threads that wait for work sleep in every process that computes, so that two runs share a machine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.stack.high_availability.programs import Services as HighlyAvailable
from deployments.stack.programs import Services
from tasks.connectors.servers.passwords import Passwords
from tasks.runtime.local_services import CLIENT_DEFAULTS
from tasks.runtime.settings import SLEEPING_THREADS, read_settings
from tests.paths import ROOT

((VARIABLE, SLEEP),) = SLEEPING_THREADS.items()
ENTRANCES = ("flows.__main__", "deployments.worker", "deployments.apply", "tests.conftest")


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k != VARIABLE}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=kept | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )


def test_it_is_set_before_anything_loads_openmp() -> None:
    """The library reads it once: a module that brings torch in earlier would undo it without a word."""
    code = (
        f"import importlib, os, sys; [importlib.import_module(name) for name in {ENTRANCES}]\n"
        "print(*{'torch', 'numpy', 'sklearn', 'scipy'} & set(sys.modules))\n"
        "from tasks.runtime.local_services import set_client_defaults; set_client_defaults()\n"
        f"print(os.environ[{VARIABLE!r}])"
    )
    assert python(code).stdout.splitlines() == ["", SLEEP]


def test_what_a_person_has_set_stays() -> None:
    code = "from tasks.runtime.local_services import set_client_defaults as s; s(); import os; print(os.environ['{}'])"
    done = python(code.format(VARIABLE), **{VARIABLE: "ACTIVE"})
    assert done.stdout.strip() == "ACTIVE"


@pytest.mark.parametrize("own", ["", "ACTIVE"])
def test_workers_and_children_are_started_with_it_or_with_a_persons_own_value(
    own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if own:
        monkeypatch.setenv(VARIABLE, own)
    # Root runs PostgreSQL and Redis as the accounts of their packages, which need not be installed here.
    monkeypatch.setattr("deployments.stack.high_availability.debian.os.geteuid", lambda: 1000)
    settings = read_settings()
    programs = Services(tmp_path / "up", settings).workers
    programs += HighlyAvailable(tmp_path / "ha", settings, Passwords()).programs
    workers = [program for program in programs if program.name.endswith("-worker")]
    assert len(workers) == 4
    environments = [program.environment for program in workers]
    environments.append(settings.environment_without_keys)  # engine builds, training processes
    assert {environment[VARIABLE] for environment in environments} == {own or SLEEP}


@pytest.mark.skipif(sys.platform != "linux", reason="of GNU's OpenMP")
def test_torch_takes_it_from_the_environment_of_a_child() -> None:
    done = python("import torch", OMP_DISPLAY_ENV="TRUE", **SLEEPING_THREADS)
    assert f"{VARIABLE} = '{SLEEP}'" in done.stderr


def test_make_says_the_same() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^export {VARIABLE} \?= {SLEEP}$", makefile, re.M)
    assert SLEEPING_THREADS.items() <= CLIENT_DEFAULTS.items()
