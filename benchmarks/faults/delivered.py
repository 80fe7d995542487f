"""One night's reviews, with every version of every object."""

import random
from typing import Any

from benchmarks.faults import worker
from benchmarks.faults.checker import Rows, Verdict, check
from benchmarks.faults.parts import encoded, some_rows
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.scoring.plan import ScoringRun


class Delivered:
    """Reviews below a prefix of their own, in all their versions.

    Args:
        store: the store that holds them.
        prefix: the prefix of inputs and outputs.
        seed: the seed of their texts.
    """

    def __init__(self, store: ObjectStore, prefix: str, seed: int) -> None:
        self.store, self.prefix, self.rng = store, prefix, random.Random(seed)
        self.input, self.output = f"{prefix}/in/", f"{prefix}/out"
        self.versions: dict[str, list[Rows]] = {}

    def deliver(self, name: str, count: int) -> None:
        """Write a new object, or a new version of one."""
        rows = some_rows(self.rng, count)
        self.versions.setdefault(name, []).append(rows)
        self.store.write_bytes(encoded(name, rows), f"{self.input}{name}")

    def draft(self, run: str, **changed: Any) -> ScoringRun:
        """Draft a run over all of them, ready to be planned."""
        return worker.draft(run, self.input, self.output, **changed)

    @property
    def root(self) -> str:
        """The root of the predictions."""
        return self.draft("any").root

    def verdict(self, done: bool, failed: bool = False) -> Verdict:
        """Check for lost, duplicated or mixed-up rows, with independent code."""
        bucket, _, root = self.root.removeprefix("s3://").partition("/")
        return check(self.store.client, bucket, root, self.versions, done, failed)
