"""Measure nights of scoring: memory, planning, and S3 to S3 compared with the engine alone. `make bench-nights`.

    python -m benchmarks.nights memory      peak resident memory of a scoring run, by reviews and by objects
    python -m benchmarks.nights planning    a plan of a million objects
    python -m benchmarks.nights speed       reviews a second from S3 to S3, and of the engine alone, in turns

Memory and planning use a model that costs nothing (that of benchmarks/faults), so that a million reviews are feasible;
speed uses the packaged MiniLM on reviews of a file. It starts its own object store.
"""

import argparse
import contextlib
import json
import logging
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.faults import worker
from tasks.connectors.servers.local_servers import LocalObjectStore
from tasks.connectors.storage.object_store import ObjectInfo, ObjectStore
from tests.paths import ROOT

_SPAWN: Any = multiprocessing.get_context("spawn")
_INPUT, _OUTPUT = "s3://nightshift/in/", "s3://nightshift/out"


@contextlib.contextmanager
def a_store() -> Generator[ObjectStore]:
    """Run an S3 server during a measurement, and configure it as the object store."""
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-") as name:
        server = LocalObjectStore(Path(name))
        os.environ |= {
            "AWS_ENDPOINT_URL_S3": server.endpoint_url,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
        }
        try:
            server.store().make_bucket("nightshift")
            yield server.store()
        finally:
            server.stop()


def some_reviews(count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield JSON lines of about a hundred bytes."""
    rng = random.Random(seed)
    for number in range(count):
        yield (
            json.dumps(
                {"id": number, "text": f"review {number} " + "dull " * rng.randint(5, 20)}
            ).encode()
            + b"\n"
        )


def _scored(result: Any) -> None:
    """Score everything; put the seconds, the rows and the memory before scoring into the queue."""
    logging.disable(logging.CRITICAL)
    worker.use_text_model()
    base = psutil.Process().memory_info().rss
    started = time.perf_counter()
    summary = worker.run_to_end(worker.draft("bench", _INPUT, _OUTPUT))
    result.put((time.perf_counter() - started, summary.counts.rows_in, base / 1e6))


def in_a_process(target: Any, *arguments: Any) -> Any:
    """Run a function in a fresh process; return the items it queues, and its peak resident memory in MB.

    This process samples the memory every 10 ms: getrusage in the child would include this process's memory at its
    start.
    """
    result = _SPAWN.Queue()
    process = _SPAWN.Process(target=target, args=(result, *arguments))
    process.start()
    seen, peak = psutil.Process(process.pid), 0
    with contextlib.suppress(psutil.Error):
        while result.empty() and process.is_alive():
            peak = max(peak, seen.memory_info().rss)
            time.sleep(0.01)
    found = result.get(timeout=10)
    process.join()
    return *found, peak / 1e6


def memory(console: Console, largest: int, only: str) -> None:
    """Measure the peak resident memory of a scoring run at several sizes."""
    nights: dict[str, Any] = {
        f"{rows:,} reviews, 10,000 an object": (rows, 10_000)
        for rows in (10_000, 100_000, 1_000_000)
        if rows <= largest
    }
    nights["one object of 1 GB"] = (largest * 10, largest * 10)
    nights["20,000 objects of one review"] = (20_000, 1)
    table = Table("night", "rows", "MB", "s", "MB before", "peak MB")
    for name, (rows, a_file) in ((k, v) for k, v in nights.items() if only in k):
        with a_store() as store:
            size = deliver(store, rows, a_file)
            seconds, scored, before, peak = in_a_process(_scored)
            figures = [
                f"{scored:,}",
                f"{size / 1e6:,.0f}",
                f"{seconds:,.0f}",
                f"{before:,.0f}",
                f"{peak:,.0f}",
            ]
            table.add_row(name, *figures)
            console.print(name, *figures)
    console.print(table)


def deliver(store: ObjectStore, rows: int, a_file: int) -> int:
    """Write reviews into objects of a given number of rows; return their bytes."""
    size = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reviews.jsonl"
        for number, first in enumerate(range(0, rows, a_file)):
            with path.open("wb") as stream:
                stream.writelines(some_reviews(min(a_file, rows - first), seed=number))
            size += path.stat().st_size
            store.upload(path, f"{_INPUT}{number:06}.jsonl")
    return size


def _planned(result: Any, objects: int) -> None:
    logging.disable(logging.CRITICAL)
    listed = (
        ObjectInfo("nightshift", f"in/2026/11/23/reviews-{n:08}.jsonl", 1000 + n % 500, f"{n:032x}")
        for n in range(objects)
    )
    original = ObjectStore.scan

    def scan(self: ObjectStore, uri: str) -> Iterator[ObjectInfo]:
        return listed if uri == _INPUT else original(self, uri)

    ObjectStore.scan = scan
    worker.planning.__dict__["look_at_samples"] = lambda *_: None
    before = psutil.Process().memory_info().rss
    started = time.perf_counter()
    planned = worker.plan_scoring.fn(worker.draft("bench", _INPUT, _OUTPUT))
    result.put((time.perf_counter() - started, planned.shards, before / 1e6))


def planning(console: Console, objects: int) -> None:
    """Plan a synthetic listing of a given number of objects; everything else is real."""
    with a_store():
        seconds, shards, before, peak = in_a_process(_planned, objects)
    console.print(
        f"{objects:,} objects: planned and frozen in {seconds:.1f} s, {shards:,} shards; peak {peak:,.0f} MB "
        f"({before:,.0f} MB before)"
    )


def _texts(reviews: Path | None) -> list[str]:
    """Read texts of a Parquet file, or of the sample."""
    if reviews is None:
        lines = (ROOT / "tasks" / "sample" / "train.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["text"] for line in lines]
    return pq.read_table(reviews, columns=["text"])["text"].to_pylist()


def speed(console: Console, given: argparse.Namespace) -> None:
    """Measure S3 to S3 and the engine alone on the same reviews, in turns, and the resident memory after each round."""
    from tasks.core.engines import registry
    from tasks.core.engines.protocol import EngineOptions
    from tasks.core.scoring import predict
    from tasks.core.scoring.params import EngineParams
    from tasks.core.scoring.predict import Review
    from tasks.scoring import shards as score_shards

    logging.disable(logging.CRITICAL)
    reviews = _texts(given.reviews)
    params = EngineParams()
    classifier = _classifier(given.model)
    options = EngineOptions(params.device, params.precision, params.batch_tokens)
    engine = registry.open_engine(given.engine, classifier, given.model or Path(), options)
    loaded: Any = (classifier, engine)
    score_shards.__dict__["_loaded"] = lambda *_: loaded

    def through_s3(number: int, _: list[str]) -> None:
        source, output = f"{_INPUT}{number}/", f"{_OUTPUT}-{number}"
        worker.run_to_end(worker.draft(f"r{number}", source, output), params)

    def alone(_: int, texts: list[str]) -> None:
        rows = [Review(n, str(n), text) for n, text in enumerate(texts)]
        for _told in predict.score([rows], classifier.encoder, engine, params.window_reviews):
            pass

    with a_store() as store:
        ratios: list[float] = []
        for number in range(given.rounds + 1):
            # Different reviews each round, as each night: the memory then shows what an engine caches per length.
            texts = random.Random(number).choices(reviews, k=given.rows)
            _deliver_texts(store, texts, given.objects or 10, f"{_INPUT}{number}/")
            spent: dict[Any, float] = {}
            for side in (through_s3, alone) if number % 2 else (alone, through_s3):
                started = time.perf_counter()
                side(number, texts)
                spent[side] = time.perf_counter() - started
            resident = psutil.Process().memory_info().rss / 1e6
            console.print(
                f"round {number or 'to warm up'}: {given.rows / spent[through_s3]:.1f} reviews/s from S3 to S3, "
                f"{given.rows / spent[alone]:.1f} alone; {resident:,.0f} MB resident"
            )
            if number:
                ratios.append(spent[alone] / spent[through_s3])
    console.print(
        f"{given.engine}: ratio {statistics.median(ratios):.3f} (range {min(ratios):.3f}-{max(ratios):.3f})"
    )


def _deliver_texts(store: ObjectStore, texts: list[str], objects: int, place: str) -> None:
    for number in range(objects):
        part = texts[number::objects]
        lines = [json.dumps({"id": n, "text": t}) for n, t in enumerate(part)]
        store.write_bytes("\n".join(lines).encode(), f"{place}{number}.jsonl")


def _classifier(folder: Path | None) -> Any:
    """Load a saved model, or the packaged MiniLM with a new head."""
    from tasks.connectors.model_hub import PACKAGED, base_model_folder
    from tasks.core.data.params import TokenizationParams
    from tasks.core.models import classifier as modeling

    if folder:
        return modeling.load(folder)
    base, _ = base_model_folder(PACKAGED, None)
    return modeling.load_for_training(base, ["NEGATIVE", "POSITIVE"], TokenizationParams(), 0.0)


def main() -> None:
    """Run the requested measurements."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nights")
    parser.add_argument("what", choices=("memory", "planning", "speed"))
    parser.add_argument("--largest", type=int, default=1_000_000, help="reviews (memory)")
    parser.add_argument("--only", default="", help="nights whose name holds this (memory)")
    parser.add_argument("--objects", type=int, help="(planning: a million; speed: ten)")
    parser.add_argument(
        "--reviews", type=Path, help="Parquet file with a column text; else the sample (speed)"
    )
    parser.add_argument("--model", type=Path, help="that Nightshift saved; else MiniLM (speed)")
    parser.add_argument("--engine", default="torch", help="built in that folder (speed)")
    parser.add_argument("--rows", type=int, default=1_000, help="reviews (speed)")
    parser.add_argument(
        "--rounds", type=int, default=4, help="rounds, of which each side begins half (speed)"
    )
    given = parser.parse_args()
    console = Console()
    if given.what == "memory":
        memory(console, given.largest, given.only)
    elif given.what == "planning":
        planning(console, given.objects or 1_000_000)
    else:
        speed(console, given)


if __name__ == "__main__":
    main()
