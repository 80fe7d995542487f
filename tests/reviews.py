"""Easy reviews in any number, for tests of code (the sample in tasks/sample is for people)."""

import csv
import io
import json
import random
from collections.abc import Sequence

GOOD = ["wonderful", "moving", "brilliant", "funny", "charming", "superb"]
POOR = ["dull", "awful", "boring", "clumsy", "tedious", "dreadful"]
_THINGS = [
    "the plot",
    "the cast",
    "the music",
    "the ending",
    "the dialogue",
    "the camera work",
    "the lead",
    "the pace",
]


def reviews(rows: int, seed: int = 0) -> list[tuple[str, str]]:
    """Distinct (text, label) pairs, half of each label, sorted by label as IMDb is."""
    generator = random.Random(seed)
    made: list[tuple[str, str]] = []
    for index in range(rows):
        label, words = ("NEGATIVE", POOR) if index < rows // 2 else ("POSITIVE", GOOD)
        parts = [
            f"{generator.choice(_THINGS)} was {generator.choice(words)}"
            for _ in range(generator.randint(1, 4))
        ]
        made.append((f"Evening {seed}-{index}: {' and '.join(parts)}.", label))
    return made


def jsonl(rows: Sequence[tuple[str | None, object]]) -> bytes:
    """As JSON Lines with columns text and label."""
    return "".join(json.dumps({"text": t, "label": label}) + "\n" for t, label in rows).encode()


def as_csv(rows: Sequence[tuple[str, object]], text: str = "text", label: str = "label") -> bytes:
    """As CSV with a header."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([text, label])
    writer.writerows(rows)
    return out.getvalue().encode()
