"""What a measurement leaves behind: one JSON file, from which tables and plots are made."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.speed import machine

FOLDER = Path("docs/bench")
QUICK = Path(".nightshift/bench/quick")  # figures that mean nothing stay out of the documentation
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
    """A measurement as it is written down.

    Args:
        part: one of PARTS.
        settings: what was asked for: rows, rounds, data, model.
        rows: of the table; each has a `name`.
        missing: rows that are not there, and why.
        peaks: what matrix products reached.
        more: of that measurement alone.
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
    """Put it where the others are, in place of the one before of the same part and label."""
    folder.mkdir(parents=True, exist_ok=True)
    label = str(found["settings"].get("label", ""))
    path = folder / f"{found['part']}{'-' * bool(label)}{label}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return path


def read(folder: Path) -> list[dict[str, Any]]:
    """All that were written, in the order of PARTS, then by file name."""
    found = [(p.name, json.loads(p.read_text(encoding="utf-8"))) for p in folder.glob("*.json")]
    return [told for _, told in sorted(found, key=lambda f: (PARTS.index(f[1]["part"]), f[0]))]
