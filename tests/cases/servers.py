"""The servers that cases run against, a champion, and one case tried from outside."""

import contextlib
import io
import os
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.formats import reading
from tests.cases import processes
from tests.cases.case import Case, Found, fast_retrain
from tests.models import tiny_bert
from tests.reviews import jsonl, reviews

MODEL = "cases"
_TRAINING_SECONDS = 900.0


@dataclass
class Bench:
    """Servers that run, with a champion.

    Args:
        environment: for commands, which finds the servers.
        store: a client of the object store.
        folder: for files.
        most_seconds, most_gib: of one command.
    """

    environment: Mapping[str, str]
    store: ObjectStore
    folder: Path
    most_seconds: float = 180.0
    most_gib: float = 12.0
    delivered: set[str] = field(default_factory=set[str])

    @property
    def base(self) -> Path:
        """A tiny base model."""
        return self.folder / "bert"

    def command(
        self,
        code: Path,
        arguments: Sequence[str],
        most_seconds: float | None = None,
        variables: Mapping[str, str | None] | None = None,
    ) -> processes.Ended:
        """`python -m flows ...` (or another `python ...`) with the code of a folder and other variables."""
        given = {**self.environment, "PYTHONPATH": str(code), **(variables or {})}
        environment = {name: value for name, value in given.items() if value is not None}
        of_flows = [] if arguments[0] == "python" else ["-m", "flows", arguments[0]]
        command = [sys.executable, *of_flows, *arguments[1:]]
        seconds = most_seconds or self.most_seconds
        return processes.run(command, environment, code, seconds, self.most_gib)

    def train(self, code: Path) -> None:
        """Register a tiny model, which becomes the champion."""
        labelled = "s3://nightshift/cases/labelled"
        self.store.write_bytes(jsonl(reviews(200)), f"{labelled}/train.jsonl")
        self.store.write_bytes(jsonl(reviews(120, 50)), f"{labelled}/test.jsonl")
        tiny_bert(self.base)
        given = [part.format(base=self.base) for part in fast_retrain(labelled, MODEL)]
        off = ["--no-gate.must-beat-baseline", "--no-engines.measure"]
        ended = self.command(code, [*given, *off], _TRAINING_SECONDS)
        if ended.status:
            raise RuntimeError(f"There is no champion to score with:\n{ended.text[-4000:]}")

    def tried(self, case: Case, code: Path, side: str) -> Found:
        """What becomes of a case with the code of a folder."""
        source = f"s3://nightshift/cases/{case.name}/in/"
        if case.name not in self.delivered:
            self.delivered.add(case.name)
            for name, content in case.files().items():
                self.store.write_bytes(content, source + name)
        output = f"s3://nightshift/cases/{case.name}/{side}"
        base = self._own_base(case) if case.base else self.base
        put_in = {"input": source, "output": output, "base": base, "side": side}
        given = [part.format(**put_in) for part in case.command]
        if given[0] == "score":
            given += ["--output", output, "--model-name", MODEL]
            given += [] if "--input" in given else ["--input", source]
        variables = dict(case.environment)
        if case.prepare:
            try:
                variables |= case.prepare(self, code, given)
            except RuntimeError as error:
                return Found(1, f"error: what comes before fails: {error}")
        ended = self.command(code, given, None, variables)
        rows, rejected, content = self._written(output) if given[0] == "score" else ({}, {}, {})
        return Found(
            ended.status,
            ended.text,
            rows,
            rejected,
            content,
            ended.seconds,
            ended.peak_mib,
            ended.timed_out,
        )

    def _own_base(self, case: Case) -> Path:
        folder = self.folder / "bases" / case.name
        if case.base and not folder.exists():
            case.base(folder)
        return folder

    def _written(self, output: str) -> tuple[dict[str, int], dict[str, int], dict[str, bytes]]:
        """Rows and rejects of each object, by its name, and small outputs as they are."""
        rows, rejected, content = dict[str, int](), dict[str, int](), dict[str, bytes]()
        for item in self.store.scan(output):
            below = item.uri.partition("/version=")[2].partition("/")[2]
            if below.startswith("_rejected/"):
                name = below.removeprefix("_rejected/").rsplit(".", 2)[0]
                rejected[name] = _rows(below, self.store.read_bytes(item.uri) or b"")
            elif below and not below.startswith("_"):
                found = self.store.read_bytes(item.uri) or b""
                rows[below] = _rows(below, found)
                content |= {below: found} if len(found) < 1 << 20 else {}
        return rows, rejected, content


def _rows(name: str, content: bytes) -> int:
    return sum(1 for _ in reading.decode(name, io.BytesIO(content), columns=["row"]))


@contextlib.contextmanager
def a_bench(folder: Path, most_seconds: float, most_gib: float) -> Generator[Bench]:
    """Servers of their own, whatever else runs on this machine."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "MLFLOW_", "PREFECT_", "NIGHTSHIFT_", "HF_")):
            del os.environ[name]
    os.environ |= {
        "NIGHTSHIFT_HOME": str(folder / "home"),
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hub"),
        "COLUMNS": "1000",  # sentences on one line
    }
    from tasks.runtime.clients import object_store
    from tasks.runtime.local_services import local_services

    with local_services():
        yield Bench(dict(os.environ), object_store(), folder, most_seconds, most_gib)
