"""From the labels people have (names, numbers, numbers as text) to class ids."""

from collections.abc import Iterable, Sequence

from tasks.core.errors import ValidationError

UNLABELLED = "-1"  # IMDb's mark of a review that nobody has labelled
MAX_CLASSES = 200


def canonical_label(value: object) -> str | None:
    """One spelling a label: 1, 1.0, "1" and " 1 " are the same one; missing ones (None, NaN, "") become None."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def discover_names(labels: Iterable[str | None]) -> list[str]:
    """The label names of a set that does not say: the distinct labels, numbers by value, else by the alphabet.

    Raises:
        ValidationError: more distinct labels than a classifier of reviews can have; it is the wrong column.
    """
    distinct = {label for label in labels if label is not None and label != UNLABELLED}
    if len(distinct) > MAX_CLASSES:
        raise ValidationError(
            f"The label column holds {len(distinct):,} different values; the limit is {MAX_CLASSES}",
            "data.source.label_column",
            "name the column that holds the class",
        )
    if all(label.isdigit() for label in distinct):
        return sorted(distinct, key=int)
    return sorted(distinct)


def label_ids(label_names: Sequence[str]) -> dict[str, int]:
    """Label (as `canonical_label` spells it) to class id.

    Where no name is itself a number, the id stands for the name: IMDb's files say 0 and 1.
    """
    by_name = {name: index for index, name in enumerate(label_names)}
    if any(name.isdigit() for name in label_names):
        return by_name
    return {str(index): index for index in range(len(label_names))} | by_name
