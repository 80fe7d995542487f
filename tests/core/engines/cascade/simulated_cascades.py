"""Reviews with a truth, and engines that know it more or less well."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.core.engines.cascade.bands import margins
from tasks.core.engines.cascade.fitting import Rows
from tasks.core.engines.cascade.stages import Cascade, Stage

Logits = NDArray[np.float32]


class Table:
    """An engine that knows the logits of every row by the number that is its first token."""

    def __init__(self, logits: Logits, label_names: list[str] | None = None) -> None:
        self.known = logits
        self.label_names = label_names or [f"label {n}" for n in range(logits.shape[1])]
        self.asked: list[int] = []

    def logits(self, input_ids: Sequence[Sequence[int]]) -> Logits:
        self.asked += [int(row[0]) for row in input_ids]
        return self.known[[row[0] for row in input_ids]].reshape(-1, self.known.shape[1])


class World:
    """Reviews with a truth, an exact engine, and cheaper ones that are the noisier the cheaper.

    Args:
        rows: of them.
        seed: of the draw.
        noise: of each cheap engine, in log-odds.
        classes: any number.
    """

    def __init__(
        self, rows: int, seed: int, noise: Sequence[float] = (0.15,), classes: int = 2
    ) -> None:
        generator = np.random.default_rng(seed)
        self.labels = generator.integers(0, classes, rows)
        exact = generator.normal(0, 1.2, (rows, classes))
        exact[np.arange(rows), self.labels] += 3
        cheap = [exact + generator.normal(0, n, exact.shape) for n in noise]
        self.answers = [found.astype(np.float32) for found in (*cheap, exact)]
        self.rows = [[n] for n in range(rows)]

    def stages(self) -> list[Stage]:
        return [Stage(f"stage {n}", Table(found)) for n, found in enumerate(self.answers)]

    def known(self, labelled: bool = True) -> Rows:
        """The rows, of which every stage's answers are known."""
        answers = {f"stage {n}": found for n, found in enumerate(self.answers)}
        return Rows(self.rows, self.labels if labelled else None, answers)

    def labels_by(self, cascade: Cascade) -> NDArray[np.int64]:
        """What a cascade that was fitted elsewhere says of these rows."""
        answers = {f"stage {n}": found for n, found in enumerate(self.answers)}
        found, left = self.labels * 0, np.ones(len(self.labels), dtype=np.bool_)
        for stage in cascade.stages:
            logits = answers[stage.name] / np.float32(stage.temperature)
            found[left] = logits.argmax(1)[left]
            left &= margins(logits) < stage.band
        return found


#: Logits of some rows and three classes, with ties.
logits_of = st.integers(1, 25).flatmap(
    lambda rows: st.lists(
        st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]), min_size=3, max_size=3),
        min_size=rows,
        max_size=rows,
    )
)
