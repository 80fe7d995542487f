"""Programs of Debian's packages, run in separate folders and never as the system's services."""

import importlib.util
import os
import pwd
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from deployments.stack.supervision import Program
from tasks.connectors.private_files import write_private
from tasks.core.errors import ServiceError

_OLDEST_POSTGRES = 14  # required by Prefect
_PROGRAMS = {"redis-server": "redis-server", "nginx-light": "nginx", "util-linux": "setpriv"}
_INSTALL_DEBIAN = "apt-get install --yes --no-install-recommends"
_INSTALL_PYTHON = (
    "pip install --no-deps --require-hashes"
    " -r deployments/locks/engines.txt -r deployments/locks/extras.txt"
)


def require_installed() -> None:
    """Raise ServiceError if a package is missing; it names all missing ones and the command that installs them."""
    debian = [package for package, name in _PROGRAMS.items() if not program(name)]
    debian += [] if postgres_versions() else ["postgresql"]
    if debian:
        solution = f"{_INSTALL_DEBIAN} {' '.join(debian)}"
        raise ServiceError(f"Debian packages are missing: {', '.join(debian)}", "", solution)
    # For several API servers, and for MLflow on PostgreSQL.
    python = [m for m in ("prefect_redis", "psycopg2") if not importlib.util.find_spec(m)]
    if python:
        raise ServiceError(f"Python packages are missing: {', '.join(python)}", "", _INSTALL_PYTHON)


def require_reachable(folder: Path) -> None:
    """Raise ServiceError if root would start services in a folder that their accounts cannot reach."""
    for part in (folder, *folder.parents) if os.geteuid() == 0 else ():
        if part.exists() and not part.stat().st_mode & 0o001:
            raise ServiceError(
                f"PostgreSQL, Redis and nginx do not run as root and cannot enter {part}",
                str(folder),
                f"chmod o+x {part}, or set NIGHTSHIFT_HOME to a folder elsewhere",
            )


def program(name: str) -> str:
    """Return the path of a program; '' if it is not installed. Debian keeps some only on root's PATH."""
    folders = [os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]
    return shutil.which(name, path=os.pathsep.join(folders)) or ""


def postgres_versions() -> dict[int, Path]:
    """Return the supported versions of PostgreSQL with the folders of their programs, which are not on the PATH."""
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    versions = {int(f.parent.name): f for f in folders if f.parent.name.isdigit()}
    return {version: path for version, path in versions.items() if version >= _OLDEST_POSTGRES}


class DebianProgram:
    """A program with a folder that only its account can enter, and without the caller's settings and keys.

    If root starts it, it runs under the account that its package created, otherwise under the caller's (`user_id`). It
    ends when its parent dies, however it dies: these programs overwrite the environment by which the supervisor would
    otherwise find leftover processes. `prepare` writes the configuration files, given by name and content.

    Raises:
        ServiceError: root starts it, and the account does not exist.
    """

    def __init__(
        self,
        name: str,
        account: str,
        folder: Path,
        command: Sequence[str],
        files: Mapping[str, str],
        stop_signal: str = "TERM",
        stop_seconds: int = 20,
    ) -> None:
        try:
            self._user = pwd.getpwnam(account) if os.geteuid() == 0 else None
        except KeyError as error:
            solution = "install the Debian package that creates it"
            raise ServiceError(f"There is no account {account!r}", "", solution) from error
        self._folder, self._files = folder, files
        self._prefix = [program("setpriv"), "--pdeathsig", stop_signal]
        self.user_id = os.geteuid()
        if user := self._user:
            self.user_id = user.pw_uid
            self._prefix += ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid)]
            self._prefix += ["--init-groups", "--no-new-privs"]
        self.program = Program(
            name=name,
            command=self.as_account(command),
            environment={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"},
            stop_signal=stop_signal,
            stop_seconds=stop_seconds,
        )

    def as_account(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs another one under the account."""
        return [*self._prefix, "--", *command]

    def prepare(self) -> None:
        """Create its folder and write its configuration files."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        self._give(self._folder)
        for name, content in self._files.items():
            self.write(name, content)

    def write(self, name: str, content: str) -> Path:
        """Write a file that only the account can read to the folder; return its path."""
        write_private(self._folder / name, content)
        return self._give(self._folder / name)

    def _give(self, path: Path) -> Path:
        if self._user:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)
        return path
