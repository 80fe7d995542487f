"""The result of a measurement: one JSON file, from which tables and plots are made."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.speed import machine

FOLDER = Path("docs/bench")
QUICK = Path(".nightshift/bench/quick")  # meaningless figures stay out of the documentation
FORMAT = 1
PARTS = ("scoring", "price-list", "training", "accuracy", "sweep", "cold-start", "gpu")


def result(
    part: str,
    settings: dict[str, Any],
    rows: list[dict[str, Any]],
    missing: dict[str, str],
    peaks: dict[str, float] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return a measurement in the form in which it is saved.

    Args:
        part: one of PARTS.
        settings: the measurement's settings: rows, rounds, data, model.
        rows: rows of the table; each has a `name`.
        missing: rows that could not be measured, with the reason.
        peaks: the measured speed of matrix products.
        more: further entries of this measurement.
    """
    about = machine.describe() | ({"peaks_gflops": peaks} if peaks else {})
    return {
        "format": FORMAT,
        "part": part,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": about,
        "settings": settings,
        "rows": rows,
        "missing": missing,
    } | more


def write(found: dict[str, Any], folder: Path) -> Path:
    """Save a result, in place of an earlier one of the same part and label."""
    folder.mkdir(parents=True, exist_ok=True)
    label = str(found["settings"].get("label", ""))
    path = folder / f"{found['part']}{'-' * bool(label)}{label}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return path


def read(folder: Path) -> list[dict[str, Any]]:
    """Read all results, in the order of PARTS, then by file name."""
    found = [(p.name, json.loads(p.read_text(encoding="utf-8"))) for p in folder.glob("*.json")]
    return [told for _, told in sorted(found, key=lambda f: (PARTS.index(f[1]["part"]), f[0]))]
