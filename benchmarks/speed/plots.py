"""Plots of results, in the style of the report's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tasks.core.evaluation.plots.style import INK, OTHER, QUIET, save


def draw_all(found: Sequence[dict[str, Any]], folder: Path) -> list[str]:
    """Write a plot of each part that has one, of its result with the most rows; return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    for part, draw in {"scoring": _bars, "price-list": _price_list}.items():
        of_part = [result for result in found if result["part"] == part]
        if of_part:
            name = f"speed-{part}.png"
            largest = max(of_part, key=lambda result: len(result["rows"]))
            figure, title = draw(largest)
            on = f"{largest['machine']['processor']}, {largest['measured_at'][:10]}"
            figure.supxlabel(on, fontsize=7, color="dimgray")
            save(figure, folder / name, title)
            names.append(name)
    return names


def _bars(result: dict[str, Any]) -> tuple[Figure, str]:
    rows = sorted(result["rows"], key=lambda row: row["reviews_per_second"])
    figure = Figure(figsize=(7.2, 1.2 + 0.32 * len(rows)), layout="constrained")
    axes = figure.subplots()
    ours = [row["name"].startswith("Nightshift") for row in rows]
    speeds = [row["reviews_per_second"] for row in rows]
    bars = axes.barh(
        [row["name"] for row in rows], speeds, color=[INK if o else QUIET for o in ours]
    )
    told = [f"{row['ratio']:.1f}x, {row['agreement']:.2%}" for row in rows]
    axes.bar_label(bars, labels=told, padding=3, fontsize=8)
    axes.set_xlim(0, max(speeds) * 1.3)
    axes.set_xlabel("reviews a second (x pipeline, batch 32; labels as fp32)", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, "Scoring, side by side"


def _price_list(result: dict[str, Any]) -> tuple[Figure, str]:
    rows = sorted(result["rows"], key=lambda row: row["reviews_per_second"])
    figure = Figure(figsize=(9.0, max(4.5, 0.24 * len(rows))), layout="constrained")
    axes = figure.subplots()
    best = frontier(rows)
    axes.step(
        [r["reviews_per_second"] for r in best], [100 * r["accuracy"] for r in best],
        where="pre", color=QUIET, linewidth=1, zorder=1,
    )  # fmt: skip
    for number, row in enumerate(rows, start=1):
        equal = row["no_less_accurate"]
        place = (row["reviews_per_second"], 100 * row["accuracy"])
        axes.scatter(*place, color=INK if equal else OTHER, marker="o" if equal else "x", zorder=2)
        axes.annotate(str(number), place, textcoords="offset points", xytext=(4, 3), fontsize=8)
        axes.plot(
            [], [], " ", label=f"{number}  {row['name']}"
        )  # names beside the points, because they would overlap
    axes.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, handlelength=0, frameon=False
    )
    axes.set_xscale("log")
    axes.set_xlabel("reviews a second")
    axes.set_ylabel("accuracy, %")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, "Accuracy against speed; dots: as accurate as full fp32"


def frontier(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that no other row beats in both, slowest first."""
    kept: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda r: (-r["reviews_per_second"], -r["accuracy"])):
        if not kept or row["accuracy"] > kept[-1]["accuracy"]:
            kept.append(row)
    return kept[::-1]
