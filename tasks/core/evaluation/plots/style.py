"""What pictures of an evaluation share: colours, an empty figure, names made fit to print, how a file is written."""

import warnings
from pathlib import Path

from matplotlib.figure import Figure

INK = "#1f4e79"
OTHER = "#b5651d"
QUIET = "0.8"
DOTS_PER_INCH = 150


def save(figure: Figure, path: Path, title: str) -> Path:
    """Write a PNG that is the same to the byte for the same figure; returns its path."""
    if title:
        figure.suptitle(shown(title, 60), fontsize=9, color="0.4")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a label in a script the font lacks
        figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})
    return path


def figure_of(title: str, x: str, y: str, *, width: float = 4.6, height: float = 4.0) -> Figure:
    """One set of axes without the lines above and to the right; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def shown(name: str, longest: int = 18) -> str:
    """A name as matplotlib is to print it: short, on one line, its $ no formula, its leading _ no secret."""
    line = " ".join(name.split())
    line = line if len(line) <= longest else line[: longest - 1] + "…"
    return line.replace("$", r"\$") if not line.startswith("_") else f" {line}".replace("$", r"\$")
