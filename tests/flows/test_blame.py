"""Whatever one object raises, or dies of, is that object's: it fails by name, and all others are scored."""

import errno
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.faults.deadly import score_apart
from benchmarks.faults.parts import CharacterEncoder, TextEngine, encoded
from benchmarks.faults.worker import run_to_end
from tasks.connectors.servers import processes
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import DiskFullError, ModelError, StoreUnavailableError
from tasks.core.formats import reading
from tasks.scoring import shards
from tasks.scoring.store import in_work, outputs
from tests.flows.conftest import Night

SECRET = "my dear secret"


@pytest.fixture
def object_store(configured: ObjectStore) -> ObjectStore:
    """One store is enough: nothing here depends on which."""
    return configured


@pytest.fixture
def odd(empty_night: Night) -> Night:
    """Small objects that share a bundle, of which one holds a review of its own kind."""
    for number in range(5):
        empty_night.deliver(f"{number}.jsonl", 6)
    _write(empty_night, "2-odd.jsonl", SECRET)
    return empty_night


def _write(night: Night, name: str, text: str) -> None:
    rows = [{"id": "a", "text": text, "stars": 1}, {"id": "b", "text": "fine", "stars": 2}]
    night.store.write_bytes(encoded(name, rows), f"{night.input}{name}")


def _raising(method: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    """The same, but it raises for whatever holds the secret."""

    def raising(*args: Any, **kwargs: Any) -> Any:
        if SECRET in str(args):
            raise error
        return method(*args, **kwargs)

    return raising


class Panic(BaseException):
    """As Rust's panics come to Python."""


Panic.__module__ = "pyo3_runtime"


class _Engine(TextEngine):
    error: BaseException = ValueError(f"cannot multiply {SECRET!r}")
    word = SECRET

    def logits(self, input_ids: Sequence[Sequence[int]]) -> Any:
        if any(self.word in "".join(map(chr, ids)) for ids in input_ids):
            raise self.error
        return super().logits(input_ids)


class _Encoder(CharacterEncoder):
    error: BaseException | None = None

    def encode(self, texts: Sequence[str]) -> Any:
        if self.error and any(SECRET in text for text in texts):
            raise self.error
        return super().encode(texts)


def _with_model(monkeypatch: pytest.MonkeyPatch, encoder: _Encoder, engine: TextEngine) -> None:
    classifier: Any = type("Classifier", (), {"encoder": encoder, "class_costs": ()})
    monkeypatch.setattr(shards, "_loaded", lambda *_: (classifier, engine))


def _decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = reading.decode

    def odd(name: str, *args: Any, **options: Any) -> Iterator[Any]:
        yield from decode(name, *args, **options)
        if "odd" in name:
            raise OverflowError(f"date value out of range: {SECRET}")

    monkeypatch.setattr(reading, "decode", odd)


def _reviewing(monkeypatch: pytest.MonkeyPatch) -> None:
    patched = _raising(shards.predict.to_review, KeyError(SECRET))
    monkeypatch.setattr(shards.predict, "to_review", patched)


def _tokenizing(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = _Encoder()
    encoder.error = Panic(SECRET)
    _with_model(monkeypatch, encoder, TextEngine())


def _scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    _with_model(monkeypatch, _Encoder(), _Engine())


def _encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    patched = _raising(outputs.Output.__dict__["_row"], RecursionError(SECRET))
    monkeypatch.setattr(outputs.Output, "_row", patched)


def _writing(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = shards.commit

    def odd(objects: Any, run: Any, entry: Any, *args: Any) -> Any:
        if "odd" in entry.key:
            raise UnicodeError(SECRET)
        return commit(objects, run, entry, *args)

    monkeypatch.setattr(shards, "commit", odd)


@pytest.mark.parametrize(
    "break_it", [_decoding, _reviewing, _tokenizing, _scoring, _encoding, _writing]
)
def test_whatever_an_object_raises_is_that_objects(
    odd: Night,
    break_it: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patch, caplog.at_level(logging.INFO):
        break_it(patch)
        summary = run_to_end(odd.draft("first"))
    assert (summary.scored, summary.failed) == (5, 1)
    assert "2-odd.jsonl" in summary.errors[0] and "Unexpected error" in summary.errors[0]
    assert SECRET not in summary.model_dump_json() and SECRET not in caplog.text
    assert "line " in caplog.text and "tests/flows/test_blame.py" in caplog.text, "the trace"
    assert run_to_end(odd.draft("second")).complete, "nothing else was wrong with it"


@pytest.mark.parametrize(
    "error",
    [StoreUnavailableError("It is away"), OSError(28, "No space left"), KeyboardInterrupt(), ConnectionResetError(),
     BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")],
)  # fmt: skip
def test_what_is_no_objects_fault_ends_the_run(
    odd: Night, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = _Engine()
    engine.error = error
    with monkeypatch.context() as patch:
        _with_model(patch, _Encoder(), engine)
        with pytest.raises((type(error), DiskFullError)):
            run_to_end(odd.draft("first"))
    assert not _records(odd), "it ended by itself"
    assert run_to_end(odd.draft("first")).complete


def test_an_engine_that_always_fails_is_not_the_objects_fault(
    odd: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = _Engine()
    engine.word = ""
    with monkeypatch.context() as patch:
        _with_model(patch, _Encoder(), engine)
        with pytest.raises(ModelError, match="even for a harmless review") as raised:
            run_to_end(odd.draft("first"))
    assert SECRET not in str(raised.value)
    assert run_to_end(odd.draft("first")).complete


def test_reviews_that_only_fail_together_are_all_scored(
    odd: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(TextEngine):
        def logits(self, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
            if len(input_ids) > 2:
                raise MemoryError
            return super().logits(input_ids)

    _with_model(monkeypatch, _Encoder(), Small())
    assert run_to_end(odd.draft("first")).complete


def _records(night: Night) -> list[str]:
    found = [o.uri for o in night.store.scan("s3://nightshift/registry/")]
    return [uri for uri in found if "/in-work/" in uri and "/fatal/" not in uri]


def test_an_object_that_ends_the_process_twice_fails_by_name(odd: Night, tmp_path: Path) -> None:
    _write(odd, "2-odd.jsonl", "a deadly review")
    assert score_apart(odd, "first", tmp_path) is None
    assert len(_records(odd)) == 1
    assert score_apart(odd, "second", tmp_path) is None
    third = score_apart(odd, "third", tmp_path)
    assert third and (third.scored + third.scored_before, third.failed) == (5, 1)
    (error,) = third.errors
    assert "2-odd.jsonl" in error and "has died 2 times" in error and "/fatal/" in error
    assert not _records(odd)
    after = score_apart(odd, "fourth", tmp_path)
    assert after and (after.scored_before, after.failed) == (5, 1), "nobody dies again"
    _write(odd, "2-odd.jsonl", "a harmless review")
    assert run_to_end(odd.draft("fifth")).complete


def test_a_fatal_object_is_not_opened_again_and_stays_known(
    odd: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(odd, "0-odd.jsonl", "a deadly review")  # the first, which a plan looks at
    for run in ("first", "second"):
        assert score_apart(odd, run, tmp_path) is None
    assert score_apart(odd, "third", tmp_path)
    opened: list[str] = []
    decode = reading.decode

    def decoding(name: str, *args: Any, **options: Any) -> Iterator[Any]:
        opened.append(name)
        yield from decode(name, *args, **options)

    monkeypatch.setattr(reading, "decode", decoding)
    monkeypatch.setattr(in_work, "_DAY_SECONDS", -1.0)
    begun = time.time()
    (error,) = run_to_end(odd.draft("fourth")).errors
    assert not [name for name in opened if "odd" in name]
    kept = error.partition(" or once ")[2].partition(" is removed")[0]
    assert json.loads(odd.store.read_bytes(kept) or b"")["when"] >= begun


def test_a_run_that_is_started_again_goes_on_beside_a_deadly_object(
    odd: Night, tmp_path: Path
) -> None:
    _write(odd, "2-odd.jsonl", "a deadly review")
    _write(odd, "4-odd.jsonl", "another deadly review")
    deaths = 0
    while (summary := score_apart(odd, "same", tmp_path)) is None:
        deaths += 1
    assert summary.failed == 2 and summary.scored == 5
    assert deaths == 3, "one together, and one of each alone"


def test_lost_machines_count_for_nothing(odd: Night, tmp_path: Path) -> None:
    _write(odd, "2-odd.jsonl", "a deadly review")
    for host in ("elsewhere", "nowhere"):
        assert score_apart(odd, "first", tmp_path, host) is None
    assert score_apart(odd, "first", tmp_path) is None, "the first death that is known of"
    assert len(_records(odd)) == 3
    _write(odd, "2-odd.jsonl", "a harmless review")
    summary = score_apart(odd, "first", tmp_path)
    assert summary and summary.overwritten == 1
    assert not _records(odd), "of this run, wherever they were written"


def test_records_that_nobody_comes_back_to_are_tidied(
    odd: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(odd, "2-odd.jsonl", "a deadly review")
    assert score_apart(odd, "first", tmp_path) is None
    assert in_work.remove_old_records() == 0
    monkeypatch.setattr(in_work, "_KEPT_SECONDS", -1.0)
    assert in_work.remove_old_records() >= 1 and not _records(odd)


def test_a_machine_that_was_started_anew_counts_for_nothing() -> None:
    here = processes.this_process()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    owner = here.replace(f":{os.getpid()}:", f":{ended.pid}:")
    ended.wait()
    assert processes.has_died_here(owner) and not processes.has_died_here(here)
    assert processes.is_gone(f"{owner[:-8]}00000000")
    assert not processes.has_died_here(f"{owner[:-8]}00000000")
    assert not processes.has_died_here(f"else{owner}")
