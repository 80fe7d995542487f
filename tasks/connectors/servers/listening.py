"""Checks of the user whose program listens on a port: another user may have taken the port of one of our servers.

An answer from the port is no proof: it can be imitated, and clients would then send their password to an impostor.
"""

import ipaddress
import os
import pwd
import sys
from pathlib import Path

from tasks.core.errors import ServiceError

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN = "0A"


def listener_problem(port: int, setting: str = "", user: int | None = None) -> str:
    """Return '' if the server's user listens on its port, else a reason to wait. Without /proc (macOS) always ''.

    Args:
        port: on loopback.
        setting: variable that chooses the port; '' if none does.
        user: id of the account that the server runs as; defaults to this process's.
    Raises:
        ServiceError: a program of another user listens there.
    """
    if not _TABLES[0].exists():
        return ""
    expected = os.geteuid() if user is None else user
    listening = _listeners(port)
    if others := listening - {expected}:
        another = f"choose another port with {setting}" if setting else "start again on another"
        raise ServiceError(
            f"Port {port} belongs to another user of this machine, {_name(min(others))}",
            setting,
            f"stop what listens there, or {another}",
        )
    return "" if listening else f"nothing listens on port {port}"


def _listeners(port: int) -> set[int]:
    """Return the user ids of all programs that listen on a port at addresses by which this machine reaches itself."""
    users: set[int] = set()
    for table in filter(Path.exists, _TABLES):
        for line in table.read_text(encoding="utf-8").splitlines()[1:]:
            _, local, _, state, _, _, _, user, *_ = line.split()
            address, _, number = local.partition(":")
            if state == _LISTEN and int(number, 16) == port and _is_of_this_machine(address):
                users.add(int(user))
    return users


def _is_of_this_machine(text: str) -> bool:
    """True for loopback and for "any". The kernel writes addresses as 32-bit words in the machine's byte order."""
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
