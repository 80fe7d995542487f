"""Programs of Debian's packages, run in separate folders and never as the system's services.

If root starts them, each runs under the account that its package created; otherwise under the caller's account. Each
program ends when its parent dies, however it dies: these programs overwrite the environment by which the supervisor
would otherwise find leftover processes.
"""

import importlib.util
import os
import pwd
import shutil
from pathlib import Path

from tasks.core.errors import ServiceError

_OLDEST_POSTGRES = 14  # required by Prefect
_POSTGRES_VERSIONS = Path("/usr/lib/postgresql")
_MODULES = {
    "prefect_redis": "several API servers, with separate background services",
    "psycopg2": "MLflow on PostgreSQL",
}


def require_installed() -> None:
    """Raise ServiceError if a program is missing; it names all missing ones and the command that installs them."""
    installed = {
        "postgresql": bool(postgres_versions()),
        "redis-server": bool(program("redis-server")),
        "nginx-light": bool(program("nginx")),
        "util-linux": bool(program("setpriv")),
    }
    if missing := [package for package, is_installed in installed.items() if not is_installed]:
        raise ServiceError(
            f"Debian packages are missing: {', '.join(missing)}",
            "",
            f"apt-get install --yes --no-install-recommends {' '.join(missing)}",
        )
    if missing := [name for name in _MODULES if importlib.util.find_spec(name) is None]:
        needs = ", ".join(f"{name} ({_MODULES[name]})" for name in missing)
        raise ServiceError(
            f"Python packages are missing: {needs}",
            "",
            "pip install --no-deps --require-hashes -r deployments/locks/engines.txt -r deployments/locks/extras.txt",
        )


def require_reachable(folder: Path) -> None:
    """Raise ServiceError if root would start services in a folder that their accounts cannot reach."""
    if os.geteuid() != 0:
        return
    for part in (folder, *folder.parents):
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
    versions = {
        int(folder.name): folder / "bin"
        for folder in _POSTGRES_VERSIONS.glob("*")
        if folder.name.isdigit() and (folder / "bin" / "postgres").is_file()
    }
    return {version: path for version, path in versions.items() if version >= _OLDEST_POSTGRES}


def plain_environment() -> dict[str, str]:
    """Return the environment of these programs: none of the caller's settings and keys."""
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}


class Account:
    """The account that a program runs as: that of its package if root starts it, else the caller's.

    Raises:
        ServiceError: root starts it, and the account does not exist.
    """

    def __init__(self, name: str) -> None:
        try:
            self._user = pwd.getpwnam(name) if os.geteuid() == 0 else None
        except KeyError as error:
            raise ServiceError(
                f"There is no account {name!r}", "", "install the Debian package that creates it"
            ) from error

    @property
    def user_id(self) -> int:
        """The account's user id, or this process's if its programs run under that."""
        return self._user.pw_uid if self._user else os.geteuid()

    def prefix(self, signal: str) -> list[str]:
        """Return the words before a command; `signal` is sent to it when its parent dies."""
        words = [program("setpriv"), "--pdeathsig", signal]
        if self._user:
            words += ["--reuid", str(self._user.pw_uid), "--regid", str(self._user.pw_gid)]
            words += ["--init-groups", "--no-new-privs"]
        return [*words, "--"]

    def give(self, path: Path) -> Path:
        """Make the account the owner of a path."""
        if self._user:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)
        return path

    def folder(self, path: Path) -> Path:
        """Create a folder that only the account can enter."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        return self.give(path)
