"""Early end of reading reviews: if most rows are unusable, it is the wrong file."""

from tasks.core.errors import ValidationError

_ROWS_TO_JUDGE = 1_000_000  # the fraction of fewer rows may still change, also if they are sorted
_MOST_UNUSABLE = 0.5  # fraction of these rows


def refuse_useless(
    unusable: int, rows: int, reason: str, where: str, max_fraction: float = 0.0
) -> None:
    """Raise if too many rows are unusable; called after each unusable row.

    Args:
        unusable: unusable rows so far, among `rows`.
        rows: rows so far.
        reason: why the last row is unusable.
        where: where the rows are from.
        max_fraction: fraction of unusable rows that the settings allow; at least half of the rows may be unusable.
    Raises:
        ValidationError: a larger fraction of the first million rows, or of more, is unusable.
    """
    if rows >= _ROWS_TO_JUDGE and unusable > max(max_fraction, _MOST_UNUSABLE) * rows:
        raise ValidationError(
            f"{unusable:,} of its first {rows:,} rows are unusable; the last reason: {reason}",
            where,
            "check that these are the right files, and the columns of texts and labels",
        )
