"""A model that anyone can recompute from a text alone, and reviews that are hard for a scoring run."""

import csv
import hashlib
import io
import json
import random
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

LABELS = ["NEGATIVE", "POSITIVE"]
WORDS = ["dull", "grand", "slow", "warm", "ünique", "a,b", '"so"', "line\nbreak"]
COLUMNS = ["id", "text", "stars"]


def logit(text: str) -> float:
    """Compute the model's logit: a number derived from a text."""
    return (
        int.from_bytes(hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()[:4])
        / 2**31
        - 1.0
    )


class CharacterEncoder:
    """Tokenizes a text into its characters."""

    def encode(self, texts: Sequence[str]) -> Any:
        return SimpleNamespace(input_ids=[[ord(c) for c in text] for text in texts])


class TextEngine:
    """Returns the logits of the texts that the tokens spell."""

    label_names = LABELS

    def __init__(self, seconds_a_review: float = 0.0, counter: Any = None) -> None:
        self._seconds_a_review, self._counter = seconds_a_review, counter

    def logits(self, input_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        time.sleep(self._seconds_a_review * len(input_ids))
        if (
            self._counter is not None
        ):  # shared by processes; no lock, because a dead process would keep it
            self._counter.value += len(input_ids)
        values = [logit("".join(map(chr, ids))) for ids in input_ids]
        return np.array([[0.0, value] for value in values], dtype=np.float32).reshape(-1, 2)


def some_rows(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Make rows of which some cannot be scored: empty texts, and in JSONL invalid lines."""
    rows: list[dict[str, Any]] = []
    for number in range(count):
        words = " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 30)))
        text = words if rng.random() > 0.1 else " "
        rows.append(
            {"id": f"r{number}-{rng.randrange(10**9)}", "text": text, "stars": rng.randint(1, 5)}
        )
    return rows


def encoded(name: str, rows: list[dict[str, Any]]) -> bytes:
    """Encode rows as a file, with other code than the code under test."""
    if name.endswith(".jsonl"):
        return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    if name.endswith(".csv"):
        stream = io.StringIO(newline="")
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        return stream.getvalue().encode()
    sink = io.BytesIO()
    pq.write_table(
        pa.table({k: [row[k] for row in rows] for k in COLUMNS}), sink, row_group_size=50
    )
    return sink.getvalue()
