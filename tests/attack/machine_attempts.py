"""What is tried of the machine: files, processes, Unix sockets, databases, and ports of other programs."""

import base64

from tests.attack.answers import HAD, Attempt, Verdict
from tests.attack.prefect_attempts import http
from tests.attack.subjects import Port, Subject

_LOOPBACK = ("127.0.0.1", "::1")


def files(subject: Subject) -> list[Attempt]:
    """Open every file, folder and socket that the subject has."""
    made = [
        Attempt(
            target="files",
            tried=f"open every path of {name}",
            action={"do": "open_paths", "paths": paths},
        )
        for name, paths in (
            ("its home", subject.paths(subject.top)),
            # the folder itself is everybody's, as /tmp is
            ("TMPDIR", subject.paths(subject.temporary)[1:]),
        )
    ]
    made += [
        Attempt(
            target="Unix sockets",
            tried=f"connect to {path.replace(str(subject.folder), '')}",
            action={"do": "connect", "path": path},
        )
        for path in subject.sockets()
    ]
    pids = [p.pid for p in subject.processes()]
    tried = "environment, memory, files, signals"
    return [
        *made,
        Attempt(target="processes", tried=tried, action={"do": "processes", "pids": pids}),
    ]


def other_ports(ports: list[Port]) -> list[Attempt]:
    """HTTP to ports of programs that are no server of ours, such as a worker's health check."""
    return [
        http(f"{port.name}, another port", f"http://{port.host}:{port.number}{path}")
        for port in ports
        for path in ("/", "/health")
    ]


def postgres(port: Port) -> list[Attempt]:
    """Ask for a session: as the administrator, as each role, and with wrong passwords."""
    made: list[Attempt] = []
    for user, database in (("postgres", "postgres"), ("prefect", "prefect"), ("mlflow", "mlflow")):
        said = f"user\0{user}\0database\0{database}\0\0".encode()
        packet = (len(said) + 8).to_bytes(4, "big") + b"\x00\x03\x00\x00" + said
        action = {"do": "exchange", "host": port.host, "port": port.number}
        action["send"] = base64.b64encode(packet).decode()
        made.append(
            Attempt(target="PostgreSQL", tried=f"log in as {user}, no password", action=action)
        )
        for password in (user, "postgres"):
            url = f"postgresql://{user}@{port.host}:{port.number}/{database}"
            command = ["/usr/bin/psql", "--no-psqlrc", "--no-password", "-tAc", "select 1", url]
            given = {"PGPASSWORD": password, "PGCONNECT_TIMEOUT": "5"}
            action = {"do": "program", "command": command, "environment": given}
            tried = f"psql as {user}, password {password}"
            made.append(Attempt(target="PostgreSQL", tried=tried, action=action))
    return made


def redis(port: Port) -> list[Attempt]:
    """Commands without a password, and with a wrong one."""
    asked = ("PING", "INFO", "KEYS *", "CONFIG GET dir", "AUTH x", "AUTH default x", "FLUSHALL")
    return [
        Attempt(
            target="Redis",
            tried=command,
            action={
                "do": "exchange",
                "host": port.host,
                "port": port.number,
                "send": base64.b64encode(f"{command}\r\n".encode()).decode(),
            },
        )
        for command in asked
    ]


def from_outside(ports: list[Port]) -> list[Verdict]:
    """Nothing listens where another machine could reach it."""
    return [
        Verdict(
            target="the network",
            tried=f"{port.name} listens on",
            answer=port.host,
            why="this machine only" if port.host in _LOOPBACK else HAD,
        )
        for port in ports
    ]


def command_lines(subject: Subject, secrets: set[str]) -> Verdict:
    """No secret is in a command line, which every user of the machine may read."""
    holding = subject.command_lines.holding(secrets)
    return Verdict(
        target="processes",
        tried=f"{len(secrets)} secrets sought in {len(subject.command_lines)} command lines",
        answer="; ".join(holding)[:200] or "none",
        why=HAD if holding else "no secret in them",
    )
