"""What a supervised program gets is what it was given, whatever is in it; nothing of it stays on disk."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from deployments.stack.supervision import Program, Supervisor
from tasks.core.errors import ServiceError

_ODD = {
    "JSON": '{"a": "b c", "d": [1, 2]}',
    "BACKSLASH": r"C:\x\n",
    "PERCENT": "100% %(x)s",
    "LINES": "one\ntwo",
    "QUOTES": "it's",
    "BASH_FUNC_which%%": "() { true; }",
}


@pytest.fixture
def supervisor(tmp_path: Path) -> Supervisor:
    return Supervisor(tmp_path / "50% off" / "stack", str(tmp_path))


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return path.read_text()


def test_a_program_gets_what_it_was_given(supervisor: Supervisor, tmp_path: Path) -> None:
    code = (
        "import os, json, time, pathlib\n"
        f"part = pathlib.Path({str(tmp_path / 'part')!r})\n"
        "part.write_text(json.dumps(dict(os.environ)))\n"
        f"part.rename({str(tmp_path / 'seen')!r})\n"
        "time.sleep(600)"
    )
    given = {"PATH": os.environ["PATH"], "SECRET": "a-key"} | _ODD
    program = Program(name="odd", command=[sys.executable, "-c", code], environment=given)
    supervisor.start([program])
    try:
        supervisor.start_program("odd")
        seen = json.loads(wait_for(tmp_path / "seen"))
        assert {name: seen[name] for name in given} == given
        assert (tmp_path / "seen").stat().st_mode & 0o777 == 0o600, (
            "nobody else reads what it makes"
        )
        holding = [
            p for p in supervisor.folder.rglob("*") if p.is_file() and "a-key" in p.read_text()
        ]
        assert [p.stat().st_mode & 0o777 for p in holding] == [0o600]
        assert supervisor.state("odd").pid == supervisor.pid_of("odd")()
    finally:
        supervisor.shutdown()
    assert not [p for p in supervisor.folder.rglob("*") if p.is_file() and "a-key" in p.read_text()]
    assert supervisor.sweep() == []


def test_a_program_that_gives_up_is_quoted(supervisor: Supervisor) -> None:
    code = "import sys; sys.exit('no such thing as a free port')"
    program = Program(
        name="bad", command=[sys.executable, "-c", code], environment=dict(os.environ)
    )
    supervisor.start([program])
    try:
        supervisor.start_program("bad")
        deadline = time.monotonic() + 60
        while supervisor.state("bad").state != "FATAL" and time.monotonic() < deadline:
            time.sleep(0.1)
        with pytest.raises(ServiceError, match="bad does not stay up: no such thing as a"):
            supervisor.require_alive("bad")
    finally:
        supervisor.shutdown()


def test_a_folder_of_somebody_else_is_refused(supervisor: Supervisor) -> None:
    supervisor._socket_folder.mkdir(mode=0o755)
    supervisor._socket_folder.chmod(0o777)
    try:
        assert supervisor.states() == []  # whoever listens there is not asked
        with pytest.raises(ServiceError, match=r"It is open to others.*remove it, or set TMPDIR"):
            supervisor.start([])
    finally:
        supervisor._socket_folder.rmdir()
