"""Reading labelled or unlabelled reviews ends early where nearly nothing of them is of use: it is the wrong file."""

from tasks.core.errors import ValidationError

_ROWS_TO_JUDGE = 1_000_000  # a share of fewer may change yet, also where the rows are sorted
_MOST_UNUSABLE = 0.5  # share of so many rows


def refuse_useless(
    unusable: int, rows: int, reason: str, where: str, max_share: float = 0.0
) -> None:
    """Called with each row that is of no use.

    Args:
        unusable: rows without use so far, among `rows`.
        rows: so far.
        reason: why the last one is of no use.
        where: they are from.
        max_share: of unusable rows that the settings allow; at least half of the rows may be unusable.
    Raises:
        ValidationError: of the first million rows, or of more, a larger share is of no use.
    """
    if rows >= _ROWS_TO_JUDGE and unusable > max(max_share, _MOST_UNUSABLE) * rows:
        raise ValidationError(
            f"{unusable:,} of its first {rows:,} rows are of no use; the last reason: {reason}",
            where,
            "check that they are the right files, and the columns of texts and labels",
        )
