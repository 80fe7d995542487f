"""Common parts of the figures: colours, an empty figure, printable names, and writing a file."""

import warnings
from pathlib import Path

from matplotlib.figure import Figure

INK = "#1f4e79"
OTHER = "#b5651d"
QUIET = "0.8"
DOTS_PER_INCH = 150


def save(figure: Figure, path: Path, title: str) -> Path:
    """Write a PNG that is byte-identical for the same figure; return its path."""
    if title:
        figure.suptitle(shown(title, 60), fontsize=9, color="0.4")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a label in a script the font lacks
        figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})
    return path


def figure_of(title: str, x: str, y: str, *, width: float = 4.6, height: float = 4.0) -> Figure:
    """Create a figure with one set of axes, without the top and right spines; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def shown(name: str, longest: int = 18) -> str:
    """Prepare a name for matplotlib: short, on one line, `$` not read as a formula, a leading `_` not hidden."""
    line = " ".join(name.split())
    line = line if len(line) <= longest else line[: longest - 1] + "…"
    return line.replace("$", r"\$") if not line.startswith("_") else f" {line}".replace("$", r"\$")
