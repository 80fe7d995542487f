"""Odd keys, and stores that refuse: what becomes of a scoring run. The table that test_bad_places.py checks.

`python -m tests.flows.bad_places` prints it as Markdown. The server is a real one, with a real identity of few rights;
answers that no server here can be brought to give (expired keys, an archive, overload, a web page) are played.
"""

import contextlib
import datetime
import os
import re
import tempfile
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import botocore.auth
from botocore.exceptions import ClientError

from benchmarks.faults import worker
from tasks.connectors.servers.seaweedfs import SeaweedFS
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import NightshiftError
from tasks.core.scoring.plan import ScoringRun
from tasks.runtime.clients import exact_objects
from tasks.scoring import shards
from tasks.scoring.store.outputs import Output
from tests.identities import Keys, identity, managed_server

REVIEW = b'{"id": 1, "text": "lovely"}\n'
_POLICY = """{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": ["arn:aws:s3:::nightshift"]},
    {"Effect": "Allow", "Action": ["s3:GetObject"],
     "Resource": ["arn:aws:s3:::nightshift/*/in/*", "arn:aws:s3:::nightshift/*/out/*",
                  "arn:aws:s3:::nightshift/*/read/*", "arn:aws:s3:::nightshift/registry/*"]},
    {"Effect": "Allow", "Action": ["s3:PutObject", "s3:DeleteObject"],
     "Resource": ["arn:aws:s3:::nightshift/*/out/*", "arn:aws:s3:::nightshift/registry/*"]}
]}"""


@dataclass(frozen=True)
class Found:
    """What became of a run."""

    outcome: str
    message: str = ""


class Scene:
    """A run that is about to go wrong.

    Args:
        server: an S3 server.
        limited: access key and secret key of an identity that reads `in/` and writes `out/`, and nothing else.
        name: of the case, for a place of its own.
    """

    def __init__(self, server: SeaweedFS, limited: Keys, name: str) -> None:
        self.store, self.limited, self.undo = server.store(), limited, contextlib.ExitStack()
        self.input, self.output = f"s3://nightshift/{name}/in/", f"s3://nightshift/{name}/out"
        self.environment = {
            "AWS_ENDPOINT_URL_S3": server.endpoint_url,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
        }

    def deliver(self, *keys: str) -> None:
        """One review in each."""
        for key in keys:
            self.store.write_bytes(REVIEW, f"{self.input}{key}")

    @property
    def draft(self) -> ScoringRun:
        """The run."""
        return worker.draft("night", self.input, self.output)

    def played(self, status: int, code: str, message: str) -> None:
        """A server that gives one answer to everything; without a code it is a web page."""
        error = (
            f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        )
        body = (error if code else message).encode()

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_HEAD = do_DELETE = answer

            def log_message(self, *_: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.undo.callback(server.server_close)
        self.undo.callback(server.shutdown)
        self.environment["AWS_ENDPOINT_URL_S3"] = f"http://127.0.0.1:{server.server_port}"


@dataclass(frozen=True)
class Case:
    """How a run goes wrong, and what should become of it."""

    title: str
    prepare: Callable[[Scene], object]
    outcome: str
    message: str = ""  # pattern


def _forbidden_input(scene: Scene) -> None:
    scene.input = scene.input.replace("/in/", "/other/")
    scene.deliver("a.jsonl", "b.jsonl", "c.jsonl")
    _limited(scene)


def _limited(scene: Scene) -> None:
    scene.environment["AWS_ACCESS_KEY_ID"], scene.environment["AWS_SECRET_ACCESS_KEY"] = (
        scene.limited
    )


def _one_forbidden(scene: Scene) -> None:
    """Below the prefix, but in a folder that the identity may not read."""
    scene.input = scene.input.replace("/in/", "/")
    scene.output = scene.output.replace("/out", "-x/out")
    scene.deliver("in/a.jsonl", "in/b.jsonl", "other/secret.jsonl")
    _limited(scene)


def _forbidden_output(scene: Scene) -> None:
    scene.deliver("a.jsonl")
    scene.output = scene.output.replace("/out", "/read")
    _limited(scene)


def _clock(hours: int) -> Callable[[Scene], None]:
    def prepare(scene: Scene) -> None:
        scene.deliver("a.jsonl")
        wrong = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(
            hours=hours
        )
        scene.undo.enter_context(
            mock.patch.object(botocore.auth, "get_current_datetime", return_value=wrong)
        )

    return prepare


def _full_disk(scene: Scene) -> None:
    scene.deliver("a.jsonl")
    folder = scene.undo.enter_context(tempfile.TemporaryDirectory())
    full = Path(folder) / "full"
    full.symlink_to("/dev/full")

    def output(run: Any, entry: Any, _path: Path, label_names: list[str]) -> Output:
        return Output(run, entry, full, label_names)

    scene.undo.enter_context(mock.patch.object(shards, "Output", output))


def _environment(**changed: str) -> Callable[[Scene], None]:
    def prepare(scene: Scene) -> None:
        scene.deliver("a.jsonl")
        scene.environment |= changed

    return prepare


def _keys(*keys: str) -> Callable[[Scene], None]:
    return lambda scene: scene.deliver(*keys)


def _played(status: int, code: str, message: str = "as told") -> Callable[[Scene], None]:
    return lambda scene: scene.played(status, code, message)


def _archived(scene: Scene) -> None:
    """Reading of one object is refused; listing is not."""
    scene.deliver("a.jsonl", "archived.jsonl", "b.jsonl")
    original = ObjectStore.__init__

    def with_archive(self: ObjectStore, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        get = self.client.get_object

        def get_object(**given: Any) -> Any:
            if "archived" in given["Key"]:
                said: Any = {
                    "Error": {"Code": "InvalidObjectState", "Message": "GLACIER"},
                    "ResponseMetadata": {"HTTPStatusCode": 403},
                }
                raise ClientError(said, "GetObject")
            return get(**given)

        self.client.get_object = get_object

    scene.undo.enter_context(mock.patch.object(ObjectStore, "__init__", with_archive))
    scene.environment["AWS_NIGHTSHIFT_TEST"] = "archive"  # another configuration: another client


def _gone(scene: Scene) -> None:
    scene.deliver("a.jsonl", "b.jsonl", "c.jsonl")
    worker.plan_scoring.fn(scene.draft)
    scene.store.delete(f"{scene.input}b.jsonl")


_LONG = "/".join(["n" * 149] * 6)  # 899 bytes
CASES = [
    Case("key with spaces, +, %, #, ?, &", _keys("a b+c%20d#e?f&g=h.jsonl"), "1 of 1 scored"),
    Case("key in other scripts, and emoji", _keys("größe/評論/отзыв 🎬.jsonl"), "1 of 1 scored"),
    Case("two spellings of one letter (NFC, NFD)", _keys("caf\u00e9.jsonl", "cafe\u0301.jsonl"), "2 of 2 scored"),
    Case("keys that differ in case", _keys("A.jsonl", "a.jsonl"), "2 of 2 scored"),
    Case("quotes, backslash, brackets", _keys("it's \"so\" [1] \\ {x}.jsonl"), "1 of 1 scored"),
    Case("a key of 906 bytes", _keys(f"{_LONG}/a.jsonl"), "1 of 1 scored"),
    Case("a key whose predictions would have one of over 1,024 bytes",
         lambda s: s.deliver("b.jsonl", f"{_LONG}/{'m' * 90}.jsonl"), "1 of 2 scored",
         r"key of 1,0\d\d bytes; S3 allows 1,024.*shorten its name, or the output prefix"),
    Case("hidden names and folder markers", _keys("_SUCCESS", ".keep", "day/_temporary/0.jsonl", "a.jsonl"),
         "1 of 1 scored"),
    Case("`a` and `a.jsonl`, whose predictions would share a name", _keys("a", "a.jsonl"), "stops",
         r"would share one object for their predictions.*rename one"),
    Case("an empty prefix", lambda s: None, "stops", r"No object there.*check the prefix"),
    Case("output among the input", lambda s: (s.deliver("a.jsonl"), setattr(s, "output", f"{s.input}out")), "stops",
         r"overlap: predictions.*choose a prefix outside"),
    Case("an object removed after it was listed", _gone, "2 of 3 scored", "overwritten or removed"),
    Case("no such bucket", lambda s: setattr(s, "input", "s3://no-such-bucket/in/"), "stops",
         r"No such bucket.*create the bucket 'no-such-bucket'"),
    Case("not an s3:// URI", lambda s: setattr(s, "input", "incoming/"), "stops", "not of the form s3://bucket/prefix"),
    Case("unknown access key", _environment(AWS_ACCESS_KEY_ID="unknown"), "stops", r"refused.*check AWS_ACCESS_KEY_ID"),
    Case("wrong secret key", _environment(AWS_SECRET_ACCESS_KEY="wrong"), "stops",
         r"refused \(SignatureDoesNotMatch.*check AWS_ACCESS_KEY_ID"),
    Case("expired credentials", _played(400, "ExpiredToken"), "stops", r"refused \(ExpiredToken.*get new credentials"),
    Case("clock two hours slow", _clock(-2), "stops", r"RequestTimeTooSkewed.*set this machine's clock"),
    Case("clock two hours fast", _clock(2), "stops", r"RequestTimeTooSkewed.*set this machine's clock"),
    Case("reading forbidden", _forbidden_input, "stops", r"Reading is refused \(AccessDenied.*check AWS_ACCESS_KEY_ID"),
    Case("one folder forbidden", _one_forbidden, "2 of 3 scored", r"Reading is refused \(AccessDenied.*secret.jsonl"),
    Case("writing forbidden", _forbidden_output, "stops",
         r"Writing is refused \(AccessDenied.*check AWS_ACCESS_KEY_ID"),
    Case("an archived object (Glacier)", _archived, "2 of 3 scored", r"InvalidObjectState.*archived: restore it"),
    Case("a store that stays overloaded", _played(503, "SlowDown"), "stops", r"failed \(SlowDown"),
    Case("something else than S3 at the endpoint", _played(200, "", "<html>Welcome</html>"), "stops",
         "does not return what was written to it"),
    Case("nobody at the endpoint", _environment(AWS_ENDPOINT_URL_S3="http://127.0.0.1:9"), "stops",
         r"check that http://127.0.0.1:9 is reachable"),
    Case("the disk of the worker is full", _full_disk, "stops", r"disk became full.*TMPDIR to a larger disk"),
]  # fmt: skip


@contextlib.contextmanager
def a_server(folder: Path) -> Generator[tuple[SeaweedFS, Keys]]:
    """An S3 server, and the keys of an identity of few rights."""
    with managed_server(folder) as server:
        example = "s3://nightshift/x/in/a.jsonl"
        server.store().write_bytes(REVIEW, example)
        yield server, identity(server, "limited", _POLICY, lambda store: store.read_bytes(example))


def outcome(case: Case, number: int, server: SeaweedFS, limited: Keys) -> Found:
    """What becomes of a run."""
    scene = Scene(server, limited, f"case-{number}")
    with scene.undo, mock.patch.object(shards, "_loaded"):
        worker.use_text_model()
        try:
            with mock.patch.dict(os.environ, scene.environment):
                case.prepare(scene)
            with mock.patch.dict(os.environ, scene.environment):
                exact_objects().store.probe(scene.output)  # as the flow's preflight does
                summary = worker.run_to_end(scene.draft)
        except NightshiftError as error:
            return Found("stops", f"{type(error).__name__}: {error}")
    return Found(f"{summary.scored} of {summary.objects} scored", "; ".join(summary.errors))


def main() -> None:
    """Print the table as Markdown."""
    print("| What is odd | Outcome | Message |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, a_server(Path(folder)) as (server, limited):
        for number, case in enumerate(CASES):
            found = outcome(case, number, server, limited)
            message = re.sub(r"n{149}(/n{149})*", "nnn...", found.message)
            message = re.sub(r"(nightshift-probe-)[0-9a-f]+", r"\1...", message)
            message = re.sub(r"in /\S*/nightshift~\S+", "in a work folder", message)
            print(f"| {case.title} | {found.outcome} | {message} |", flush=True)


if __name__ == "__main__":
    main()
