"""What a file format has to do."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol


@dataclass(slots=True, frozen=True)
class Row:
    """One record of a file: its values, or the reason why it has none."""

    number: int  # counted from 1, without a header
    values: Mapping[str, Any] | None
    problem: str = ""


class LeftOpen:
    """A stream that stays open when pyarrow closes it: whoever opened it closes it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None: ...


class Format(Protocol):
    """Rows from bytes and bytes from rows; decode after encode gives the same values."""

    def decode(self, stream: IO[bytes]) -> Iterator[Row]:
        """Rows in file order. Raises OSError or ValueError where the file as a whole is not readable."""
        ...

    def encode(
        self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], stream: IO[bytes]
    ) -> None:
        """Write rows that have exactly `columns`. Deterministic. Does not close the stream."""
        ...
