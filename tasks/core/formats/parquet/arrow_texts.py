"""Arrow values as texts if Python has no such value: nanoseconds, years beyond 9999, durations.

A value always has the same text, whatever its neighbours: ISO 8601, with as many digits of a second as needed (none,
six or nine). A time with a zone is written with its offset; in UTC if its zone is unknown here, or beyond the years
that Python has.
"""

import datetime
import functools
from typing import Any, Literal

import numpy as np
import pyarrow as pa

# pyarrow has no types; this is its module
pa: Any

_A_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def text_of(scalar: Any) -> str:
    """Return the text of a date, time, timestamp or duration; of any other value, its Python text."""
    kind = scalar.type
    if pa.types.is_timestamp(kind):
        seconds, fraction = _split(scalar.value, kind.unit)
        return _moment(seconds, fraction, kind.tz)
    if pa.types.is_time(kind):
        return _time(*_split(scalar.value, kind.unit))
    if pa.types.is_duration(kind):
        return duration_text(scalar.value, kind.unit)
    if pa.types.is_date32(kind):
        return _date(scalar.value)
    if pa.types.is_date64(kind):
        return _date(scalar.value // 86_400_000)
    return str(scalar.as_py())


def time_of_int96(microseconds: int, nanoseconds: int) -> str:
    """Return the text of a time without a zone, of whose nanoseconds only the last 64 bits are known."""
    beyond = (nanoseconds - microseconds * 1_000) % (1 << 64)
    seconds, micro = divmod(microseconds, 1_000_000)
    return _moment(seconds, _digits(micro * 1_000 + beyond), None)


def duration_text(value: int, unit: str = "us") -> str:
    """Return a duration as ISO 8601 text in seconds."""
    seconds, fraction = _split(abs(value), unit)
    return f"PT{'-' if value < 0 else ''}{seconds}{fraction}S"


def _split(value: int, unit: str) -> tuple[int, str]:
    """Return the whole seconds, and the digits after them."""
    seconds, rest = divmod(value, _A_SECOND[unit])
    return seconds, _digits(rest * (1_000_000_000 // _A_SECOND[unit]))


def _digits(nanoseconds: int) -> str:
    if not nanoseconds:
        return ""
    return f".{nanoseconds:09}" if nanoseconds % 1_000 else f".{nanoseconds // 1_000:06}"


def _moment(seconds: int, fraction: str, zone: str | None) -> str:
    if zone is None:
        return _calendar(seconds, "s") + fraction
    tzinfo = zone_of(zone)
    try:
        local = (_EPOCH + datetime.timedelta(seconds=seconds)).astimezone(tzinfo).isoformat()
    except (OverflowError, ValueError):
        return f"{_calendar(seconds, 's')}{fraction}+00:00"
    return local[:19] + fraction + local[19:]


def _date(days: int) -> str:
    return _calendar(days, "D")


def _calendar(value: int, unit: Literal["s", "D"]) -> str:
    """Format with numpy, whose years are unlimited; years before 0 get four digits, as all others."""
    text = str(np.datetime64(value, unit))
    if not text.startswith("-"):
        return text
    year, rest = text[1:].split("-", 1)
    return f"-{year:>04}-{rest}"


def _time(seconds: int, fraction: str) -> str:
    minutes, second = divmod(seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{second:02}{fraction}"


@functools.lru_cache(maxsize=1_024)
def zone_of(name: str) -> datetime.tzinfo:
    """Return the time zone of that name, or UTC if it is unknown."""
    return _known_zone(name) or datetime.UTC


@functools.lru_cache(maxsize=1_024)
def _known_zone(name: str) -> datetime.tzinfo | None:
    try:
        return pa.lib.string_to_tzinfo(name)
    except Exception:  # its type depends on the library that holds the zones
        return None


def is_unknown_zone(name: str | None) -> bool:
    """True if a zone is unknown here, which depends on the machine's list of zones."""
    return name is not None and _known_zone(name) is None
