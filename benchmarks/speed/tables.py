"""Convert results to Markdown, and put them between the markers of a page, so that the page matches the JSON files."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE = Path("docs/speed.md")
SUMMARY = Path("README.md")
_NOT_YET = "*Not measured yet on a machine whose result is kept here.*"
_TORCH_ALONE = "Nightshift, torch"
Row = dict[str, Any]


def write_docs(found: Sequence[dict[str, Any]], page: Path, summary: Path | None = None) -> None:
    """Put tables and plots of all results into a page, between `<!-- bench:PART -->` and `<!-- end -->`.

    Args:
        found: the results.
        page: the page with all tables.
        summary: another page, with a `<!-- bench:summary -->`.
    """
    from benchmarks.speed import plots

    pictures = plots.draw_all(found, page.parent / "images")
    for place in (page, summary):
        if place:
            text = place.read_text(encoding="utf-8")
            place.write_text(filled(text, found, pictures), encoding="utf-8")


def filled(text: str, found: Sequence[dict[str, Any]], pictures: Sequence[str]) -> str:
    """Return a page's text with its marked places filled in."""

    def content(match: re.Match[str]) -> str:
        part = match[1]
        told = [markdown(result) for result in found if result["part"] == part]
        told += [f"![{part}](images/{name})" for name in pictures if name == f"speed-{part}.png"]
        if part == "summary":
            told = summary_of(found)
        inside = "\n\n".join(told) or _NOT_YET
        return f"<!-- bench:{part} -->\n{inside}\n<!-- end -->"

    return re.sub(r"<!-- bench:([a-z-]+) -->.*?<!-- end -->", content, text, flags=re.DOTALL)


def summary_of(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return one table of the best rows that keep fp32's labels or accuracy, and of training; empty if none exist."""
    rows: list[tuple[str, str, str, str]] = []
    for result in found:
        allocator, on = f" ({result['machine']['allocator']})", _processor(result["machine"])
        exact = [r for r in result["rows"] if r.get("agreement", 0) >= 0.999 and _ours(r)]
        equal = [r for r in result["rows"] if r.get("no_less_accurate") and "full" not in r["name"]]
        if result["part"] == "scoring" and exact:
            usual = "`transformers.pipeline`, batch 32"
            fastest = sorted(exact, key=lambda r: r["ratio"], reverse=True)
            told = fastest[:1] + [row for row in fastest[1:] if row["name"] == _TORCH_ALONE]
            rows += [(_scores(row), usual, _ratio(row), on) for row in told]
        elif result["part"] == "price-list" and equal:
            best = max(equal, key=lambda r: r["ratio"])
            said = f"scoring, no less accurate than full fp32: {best['name']}"
            rows.append((said, "`transformers.pipeline`, batch 32", _ratio(best), on))
        elif result["part"] == "training":
            rows += [
                (f"training: {row['name']}{allocator}", "the textbook's `Trainer`", _ratio(row), on)
                for row in result["rows"]
                if row["name"] == "Nightshift, defaults"
            ]
    head = ("what", "beside", "times as fast (range)", "on")
    return ["\n".join(_table(head, rows))] if rows else []


def _processor(about: Mapping[str, Any]) -> str:
    """Return the processor's name, and whether it supports bf16, which matters most for speed."""
    wide = any("bf16" in name for name in about["instructions"])
    return f"{about['processor']}, {'' if wide else 'no '}bf16"


def _scores(row: Row) -> str:
    alone = " with no engine but torch" if row["name"] == _TORCH_ALONE else ""
    return f"scoring{alone}, labels as fp32's in {row['agreement']:.2%}: {row['name']}"


def _ours(row: Row) -> bool:
    return str(row["name"]).startswith("Nightshift")


def markdown(result: dict[str, Any]) -> str:
    """Format one result: the machine, the table, and the missing rows with the reasons."""
    lines = [_where(result), "", *_TABLES[result["part"]](result)]
    if result["missing"]:
        told = [f"{name} ({why})" for name, why in result["missing"].items()]
        lines += ["", f"Missing: {'; '.join(told)}."]
    return "\n".join(lines)


def _where(result: dict[str, Any]) -> str:
    about, settings = result["machine"], result["settings"]
    versions = ", ".join(
        f"{name} {v}" for name, v in about["versions"].items() if name != "nightshift"
    )
    parts = [
        about.get("gpu") or about["processor"],
        f"{about['threads']} threads",
        f"allocator {about['allocator']}",
        versions,
    ]
    if "peaks_gflops" in about:
        peaks = ", ".join(f"{name} {v:,.0f}" for name, v in about["peaks_gflops"].items())
        parts.append(f"matrix products reach {peaks} GFLOP/s")
    asked = [
        f"{settings['rows']:,} reviews" if "rows" in settings else "",
        str(settings.get("reviews", "")),
        f"{settings['tokens']:.0f} tokens on average" if "tokens" in settings else "",
        f"answers judged on {settings['judged_rows']:,}" if "judged_rows" in settings else "",
        f"medians of {settings['rounds']} rounds in turns" if "rounds" in settings else "",
    ]
    busy = about["load"][0] if about["load"] else 0.0
    note = f" Load average at the end: {busy:.1f}." if busy else ""
    told = "; ".join(part for part in asked if part)
    return f"*{result['measured_at'][:10]}: {'; '.join(parts)}. {told}.{note}*"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def _scoring(result: dict[str, Any]) -> list[str]:
    head = ("", "reviews/s", "x batch 32 (range)", "x one by one", "labels as fp32", "largest change of a probability",
            "accuracy (fp32's)", "share of matrix rate")  # fmt: skip
    rows = [
        (
            row["name"],
            f"{row['reviews_per_second']:,.1f}",
            _ratio(row),
            f"{row['ratio_to_one_by_one']:.2f}" if "ratio_to_one_by_one" in row else "",
            f"{row['agreement']:.2%} of {row['judged']:,}",
            f"{row['largest_change']:.3f}",
            f"{row['accuracy']:.2%} ({row['accuracy_of_fp32']:.2%}; p {row['mcnemar_p']:.2g})",
            _share(row),
        )
        for row in result["rows"]
    ]
    return _table(head, rows)


def _price_list(result: dict[str, Any]) -> list[str]:
    price = result["settings"]["price_an_hour"]
    head = ("", "what", "reviews/s", "x pipeline, batch 32 (range)", "accuracy",
            "difference to full fp32, at least; p", f"cost of a million reviews at {price:.2f} an hour")  # fmt: skip
    rows = [
        (
            row["name"] + (" **=**" if row["no_less_accurate"] else ""),
            row["what"],
            f"{row['reviews_per_second']:,.1f}",
            _ratio(row),
            f"{row['accuracy']:.2%}",
            f"{100 * row['difference']:+.2f}, {100 * row['lower_bound']:+.2f} points; {row['mcnemar_p']:.2g}",
            f"{row['cost_of_a_million']:.3f}",
        )
        for row in sorted(result["rows"], key=lambda r: r["reviews_per_second"])
    ]
    margin = result["rows"][0]["margin"]
    note = (
        f"**=**: shown to be at most {100 * margin:g} points less accurate than the full model in fp32 "
        "(one-sided, at a risk of 5%)."
    )
    return [*_table(head, rows), "", note]


def _training(result: dict[str, Any]) -> list[str]:
    rows = [
        (row["name"], f"{row['reviews_per_second']:,.2f}", _ratio(row), _share(row))
        for row in result["rows"]
    ]
    return _table(("", "reviews/s", "x textbook (range)", "share of matrix rate"), rows)


def _accuracy(result: dict[str, Any]) -> list[str]:
    baseline = "defaults'" if result["part"] == "sweep" else "textbook's"
    head = (
        "",
        "reviews",
        "accuracy (each seed)",
        f"points beside the {baseline} (p, each seed)",
        "seconds",
    )
    rows = [
        (
            row["name"],
            f"{row['training_rows']:,}",
            f"{row['accuracy']:.2%} ({', '.join(f'{100 * share:.2f}' for share in row['seeds'])})",
            _beside(row),
            f"{row['seconds']:,.0f}",
        )
        for row in result["rows"]
    ]
    return _table(head, rows)


def _beside(row: dict[str, Any]) -> str:
    if row["difference"] is None:
        return "not trained"
    return f"{100 * row['difference']:+.2f} ({', '.join(f'{p:.2g}' for p in row['mcnemar_p'])})"


def _cold_start(result: dict[str, Any]) -> list[str]:
    steps = list(dict.fromkeys(step for row in result["rows"] for step in row["steps"]))
    rows = [
        (
            row["name"],
            f"**{row['seconds']:.2f}**",
            *(f"{row['steps'][s]:.2f}" if s in row["steps"] else "" for s in steps),
        )
        for row in result["rows"]
    ]
    return _table(("", "seconds", *steps), rows)


def _gpu(result: dict[str, Any]) -> list[str]:
    head = (
        "",
        "reviews/s",
        "x (range)",
        "share of bf16 rate",
        "GPU memory, GB",
        "cost of a million reviews",
    )
    rows = [
        (
            f"{row['task']}: {row['name']}",
            f"{row['reviews_per_second']:,.1f}",
            _ratio(row),
            _share(row),
            f"{row['memory_gb']:.2f}",
            f"{row['cost_of_a_million']:.3f}",
        )
        for row in result["rows"]
    ]
    settings = result["settings"]
    note = f"Model: {settings['model']}. Price: {settings['price_an_hour']:.2f} an hour."
    return [*_table(head, rows), "", note]


def _ratio(row: Row) -> str:
    low, high = row["ratio_range"]
    return f"**{row['ratio']:.2f}** ({low:.2f}-{high:.2f})"


def _share(row: Row) -> str:
    return f"{row['share_of_peak']:.0%} of {row['peak_of']}" if "share_of_peak" in row else ""


_TABLES: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "scoring": _scoring,
    "price-list": _price_list,
    "training": _training,
    "accuracy": _accuracy,
    "sweep": _accuracy,
    "cold-start": _cold_start,
    "gpu": _gpu,
}
