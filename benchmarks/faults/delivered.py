"""A night of reviews, and what is known of them."""

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
        store: that takes them.
        prefix: of inputs and outputs.
        seed: of their texts.
    """

    def __init__(self, store: ObjectStore, prefix: str, seed: int) -> None:
        self.store, self.prefix, self.rng = store, prefix, random.Random(seed)
        self.input, self.output = f"{prefix}/in/", f"{prefix}/out"
        self.versions: dict[str, list[Rows]] = {}

    def deliver(self, name: str, count: int) -> None:
        """A new object, or a new version of one."""
        rows = some_rows(self.rng, count)
        self.versions.setdefault(name, []).append(rows)
        self.store.write_bytes(encoded(name, rows), f"{self.input}{name}")

    def draft(self, run: str, **changed: Any) -> ScoringRun:
        """A run over all of them, to be planned."""
        return worker.draft(run, self.input, self.output, **changed)

    @property
    def root(self) -> str:
        """Where predictions go."""
        return self.draft("any").root

    def verdict(self, done: bool, failed: bool = False) -> Verdict:
        """What was lost, doubled or mixed, by code of its own."""
        bucket, _, root = self.root.removeprefix("s3://").partition("/")
        return check(self.store.client, bucket, root, self.versions, done, failed)
