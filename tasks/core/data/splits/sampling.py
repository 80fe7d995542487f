"""Seeded, shuffled, stratified sampling of rows.

In a file sorted by label, such as IMDb's, `rows[:1000]` has a single class. So nothing in this project slices a data
set; stratified samples are taken with this module.
"""

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def quotas(
    class_rows: NDArray[np.int64], rows: int, proportions: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Divide `rows` among the classes: proportional, by largest remainder, never more than a class has.

    A class that has rows gets at least one while `rows` allows it.

    Args:
        class_rows: rows that each class has, shape (classes,).
        rows: rows requested in all.
        proportions: of the classes, in any unit, shape (classes,); None for those of `class_rows`.
    """
    if rows >= int(class_rows.sum()):
        return class_rows.copy()
    weights = np.maximum(class_rows if proportions is None else proportions, 1e-9)
    exhausted = np.zeros(len(class_rows), dtype=bool)
    while True:  # a class with fewer rows than its share gives all; the others share the rest
        rest = rows - class_rows[exhausted].sum()
        exact = np.where(exhausted, class_rows, weights * rest / weights[~exhausted].sum())
        if not (exact > class_rows).any():
            break
        exhausted |= exact > class_rows
    quota = np.floor(exact).astype(np.int64)
    for index in np.argsort(-(exact - quota), kind="stable")[: rows - int(quota.sum())]:
        quota[index] += 1
    for index in np.flatnonzero((quota == 0) & (class_rows > 0)):
        donor = int(quota.argmax())
        if quota[donor] > 1:
            quota[donor] -= 1
            quota[index] += 1
    return quota


def stratified_order(labels: NDArray[np.int64], classes: int, seed: int) -> list[Indices]:
    """Return the shuffled rows of each class: a list with one index array per class id."""
    generator = np.random.default_rng(seed)
    return [generator.permutation(np.flatnonzero(labels == c)) for c in range(classes)]


def stratified_split(
    labels: NDArray[np.int64],
    sizes: list[int],
    seed: int,
    proportions: NDArray[np.int64] | None = None,
) -> list[Indices]:
    """Draw disjoint stratified samples of the given sizes, each shuffled.

    Args:
        labels: class ids, shape (rows,).
        sizes: rows of each sample; their sum may not exceed the number of rows.
        seed: of the shuffle.
        proportions: of the classes, shape (classes,); None for those of `labels`.
    Raises:
        ValueError: more rows are requested than exist.
    """
    if sum(sizes) > len(labels):
        raise ValueError(f"{sum(sizes)} rows requested, but there are only {len(labels)}")
    classes = int(labels.max()) + 1 if len(labels) else 0
    remaining = stratified_order(labels, classes if proportions is None else len(proportions), seed)
    generator = np.random.default_rng([seed, 1])
    samples: list[Indices] = []
    for size in sizes:
        rows_left = np.array([len(rows) for rows in remaining], dtype=np.int64)
        quota = quotas(rows_left, size, proportions)
        taken = [rows[:count] for rows, count in zip(remaining, quota, strict=True)]
        remaining = [rows[count:] for rows, count in zip(remaining, quota, strict=True)]
        sample = np.concatenate(taken) if taken else np.empty(0, dtype=np.int64)
        samples.append(generator.permutation(sample))
    return samples
