"""The reviews of a measurement: IMDb's Parquet files if available, else the bundled sample."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from tests.paths import ROOT

SAMPLE = ROOT / "tasks" / "sample"
IMDB = Path("../shared/data/imdb")
LABELS = ["NEGATIVE", "POSITIVE"]


@dataclass(frozen=True)
class Reviews:
    """Texts with their class ids, in a random but fixed order."""

    texts: list[str]
    labels: list[int]
    source: str

    def first(self, rows: int) -> "Reviews":
        """Return the first `rows`, with the classes as balanced as possible."""
        return Reviews(self.texts[:rows], self.labels[:rows], self.source)

    def after(self, rows: int) -> "Reviews":
        """Return all but the first `rows`."""
        return Reviews(self.texts[rows:], self.labels[rows:], self.source)


def read(split: str, imdb: Path | None, rows: int | None = None, seed: int = 0) -> Reviews:
    """Read the reviews of a split, shuffled, with alternating classes.

    Args:
        split: train or test.
        imdb: folder with IMDb's Parquet files; if it has none, the sample is used.
        rows: the largest number of reviews; None for all.
        seed: the seed of the order.
    """
    files = sorted(imdb.glob(f"{split}-*.parquet")) if imdb else []
    if files:
        import pyarrow.parquet as pq  # a GPU machine may lack it, and then uses the sample

        table = pq.read_table(files, columns=["text", "label"])
        pairs = list(zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True))
    else:
        lines = (SAMPLE / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        given = [json.loads(line) for line in lines]
        pairs = [(row["text"], LABELS.index(row["label"])) for row in given]
    rng = random.Random(seed)
    classes = [[p for p in pairs if p[1] == label] for label in range(len(LABELS))]
    for members in classes:
        rng.shuffle(members)
    shortest = min(map(len, classes))
    mixed = [pair for both in zip(*(c[:shortest] for c in classes), strict=True) for pair in both]
    mixed = mixed[:rows]
    return Reviews(
        [text for text, _ in mixed], [label for _, label in mixed], "IMDb" if files else "sample"
    )


def as_long_as_imdb(reviews: Reviews, rows: int, seed: int = 0) -> Reviews:
    """Join shorter reviews to reviews as long as IMDb's, for speed measurements only: their labels are meaningless.

    IMDb's lengths in words are close to log-normal: median 173, mean 231 (its 50,000 labelled reviews).
    """
    rng = random.Random(seed)
    texts: list[str] = []
    for _ in range(rows):
        wanted, text = rng.lognormvariate(5.23, 0.645), ""
        while len(text.split()) < wanted:
            text += rng.choice(reviews.texts) + " "
        texts.append(" ".join(text.split()[: int(wanted) + 1]))
    return Reviews(texts, [rng.randrange(2) for _ in texts], f"{reviews.source}, as long as IMDb's")
