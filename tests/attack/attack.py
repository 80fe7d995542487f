"""The attack itself: what a page does, what reads, what writes, what destroys; then what the owner finds."""

import json
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

from tests.attack import (
    machine_attempts,
    mlflow_attempts,
    prefect_attempts,
    seaweedfs_attempts,
    web_page,
)
from tests.attack.answers import Answer, Attempt, Verdict, verdict
from tests.attack.laid_out import Owner, clear_markers, lay_out, what_is_left
from tests.attack.routes import read_routes
from tests.attack.subjects import Port, Subject

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
_PYTHON = "/usr/bin/python3"
_COMMAND_SECONDS = 20.0


class Attack:
    """One subject under attack.

    Args:
        subject: that runs.
        patience_seconds: for programs that try to get in until they are ended.
    """

    def __init__(self, subject: Subject, patience_seconds: float = 15.0) -> None:
        self._subject, self._patience = subject, patience_seconds
        self._owner = Owner(subject.environment)
        self.laid = lay_out(self._owner, subject.public)
        self._ports = subject.ports()
        self._secrets = subject.secrets()
        self._routes = read_routes(bool(self._owner.mlflow_url))
        shutil.copy(Path(__file__).with_name("attacker.py"), subject.public)
        shutil.copy(Path(sysconfig.get_path("scripts"), "weed"), subject.public)

    def by_another_user(self) -> Iterator[Verdict]:
        """As user 65534, with the system's Python and curl."""
        yield from machine_attempts.from_outside(self._ports)
        yield from self._as_nobody(self._reads())
        yield from self._as_nobody(self._writes())
        self._wait_for_commands("user")
        yield from self._as_nobody(self._destruction())
        yield machine_attempts.command_lines(self._subject, self._secrets)

    def by_a_page(self) -> Iterator[Verdict]:
        """As a page in the owner's browser; then again in one in which the owner is logged in to MLflow."""
        attempts = web_page.attempts(self._owner, self._ports, self.laid)
        with web_page.foreign_page() as page:
            yield from self._tried_by(page, attempts, "page")
        self._wait_for_commands("page")
        if login := self._owner.mlflow_login:
            with web_page.foreign_page() as page:
                page.log_in(self._owner.mlflow_url, login)
                of_mlflow = [a for a in attempts if a.target == "MLflow"]
                yield from self._tried_by(page, of_mlflow, "owner logged in, page")

    def _tried_by(
        self, page: web_page.ForeignPage, attempts: list[Attempt], who: str
    ) -> Iterator[Verdict]:
        for host in web_page.HOSTS:
            page.open(host)
            for attempt in attempts:
                tried = f"{who} on {host}: {attempt.tried}"
                asked = attempt.model_copy(update={"tried": tried})
                yield self._judged(asked, page.attempt(attempt.action))

    def damage(self) -> list[Verdict]:
        """What the owner finds afterwards."""
        return what_is_left(self._owner, self.laid)

    def _wait_for_commands(self, who: str) -> None:
        """Give workers time to do what they may have been told."""
        deadline = time.monotonic() + _COMMAND_SECONDS
        told = self.laid.deployment and self._runs_grew()
        while told and time.monotonic() < deadline and not Path(self.laid.markers[who]).exists():
            time.sleep(0.5)

    def _runs_grew(self) -> bool:
        found = self._owner.prefect("flow_runs/filter", {})
        return any(run["name"] == "attack" for run in found)

    def _named(self, program: str) -> list[Port]:
        return [p for p in self._ports if p.name.split()[0] == program]

    def _reads(self) -> Iterator[Attempt]:
        laid, owner = self.laid, self._owner
        yield from machine_attempts.files(self._subject)
        for target, url in self._prefects():
            yield from prefect_attempts.reads(target, url, laid, self._routes)
        if owner.mlflow_url:
            yield from mlflow_attempts.reads("MLflow", owner.mlflow_url, laid)
        yield from seaweedfs_attempts.reads(self._named("SeaweedFS"), laid)
        yield from seaweedfs_attempts.s3_reads(owner.s3_url, owner.access_key)
        for port in self._named("PostgreSQL"):
            yield from machine_attempts.postgres(port)
        for port in self._named("Redis"):
            yield from machine_attempts.redis(port)
        yield from machine_attempts.other_ports(self._strange())

    def _prefects(self) -> list[tuple[str, str]]:
        """The address that people use; where that is a load balancer, each server behind it, too."""
        urls = [f"http://{p.host}:{p.number}" for p in self._ports if p.name == "Prefect server"]
        behind = [url for url in urls if url != self._owner.prefect_url]
        found = [(f"Prefect, server {number}", url) for number, url in enumerate(behind, start=1)]
        return [("Prefect", self._owner.prefect_url), *found]

    def _strange(self) -> list[Port]:
        known = {self._owner.mlflow_url, *(url for _, url in self._prefects())}
        servers = ("SeaweedFS", "PostgreSQL", "Redis")
        return [
            p
            for p in self._ports
            if p.name.split()[0] not in servers and f"http://{p.host}:{p.number}" not in known
        ]

    def _writes(self) -> Iterator[Attempt]:
        laid, owner, public = self.laid, self._owner, self._subject.public
        yield from prefect_attempts.writes("Prefect", owner.prefect_url, laid)
        if owner.mlflow_url:
            yield from mlflow_attempts.writes("MLflow", owner.mlflow_url, laid)
        store = self._named("SeaweedFS")
        yield from seaweedfs_attempts.writes(store, owner.s3_url, public, self._patience)

    def _destruction(self) -> Iterator[Attempt]:
        laid, owner = self.laid, self._owner
        yield from seaweedfs_attempts.destruction(self._named("SeaweedFS"), owner.s3_url)
        for target, url in self._prefects():
            yield from prefect_attempts.destruction(target, url, laid, self._routes)
        if owner.mlflow_url:
            url = owner.mlflow_url
            yield from mlflow_attempts.destruction("MLflow", url, laid, self._routes)

    def _as_nobody(self, attempts: Iterator[Attempt]) -> Iterator[Verdict]:
        """Let the other user do it, and judge each answer."""
        asked = list(attempts)
        done = subprocess.run(
            [*NOBODY, _PYTHON, "-I", str(self._subject.public / "attacker.py")],
            input=json.dumps([a.action for a in asked]),
            capture_output=True,
            text=True,
            check=True,
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
        )
        lines = done.stdout.splitlines()
        for attempt, line in zip(asked, lines, strict=True):
            answer = Answer.model_validate_json(line)
            if attempt.action["do"] != "many":
                yield self._judged(attempt, answer)
                continue
            for status, method, path, text, error in json.loads(answer.text):
                one = attempt.model_copy(update={"tried": f"{method} {path}, {attempt.tried}"})
                judged = self._judged(one, Answer(status=status, text=text, error=error))
                yield judged.model_copy(update={"sweep": True})

    def _judged(self, attempt: Attempt, answer: Answer) -> Verdict:
        return verdict(attempt, answer, {*self._secrets, self.laid.canary})


def attacked(subject: Subject, browser: bool, patience_seconds: float = 15.0) -> list[Verdict]:
    """Attack servers that run, in all ways; returns what came of each attempt.

    Args:
        subject: that runs.
        browser: a page in Chromium tries, too.
        patience_seconds: for programs that try to get in until they are ended.
    """
    attack = Attack(subject, patience_seconds)
    verdicts = list(attack.by_a_page()) if browser else []
    verdicts += attack.by_another_user()
    verdicts += attack.damage()
    clear_markers(attack.laid)
    return verdicts
