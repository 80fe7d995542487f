"""The command: `python -m tests.bench scoring price-list ... --write-docs`; without a name, the usual ones."""

import argparse
import importlib
import sys
from pathlib import Path

import transformers

from tests.bench import data, results, subject, tables

_MODULES = {
    "scoring": "scoring",
    "price-list": "price_list",
    "training": "training",
    "accuracy": "accuracy",
    "cold-start": "cold_start",
}
_USUAL = ("scoring", "price-list", "training", "cold-start")
#: With --quick: everything happens, and no figure means anything.
_QUICK = {
    "rows": 16, "judged_rows": 32, "rounds": 1, "train_rows": 48, "training_rows": 16,
    "band_rows": 32, "sample_rows": 16, "linear_rows": 64, "seeds": 1, "epochs": 1, "train_sizes": [32],
}  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for, write it down, and make the tables anew where that is asked for."""
    given = _parser().parse_args(arguments)
    if given.quick:
        for name, value in _QUICK.items():
            setattr(given, name, value)
    given.out = given.out or (results.QUICK if given.quick else results.FOLDER)
    if unknown := set(given.parts) - set(_MODULES):
        raise SystemExit(
            f"No such measurement: {', '.join(unknown)}; there are {', '.join(_MODULES)}"
        )
    if given.imdb and not any(given.imdb.glob("test-*.parquet")):
        print(f"No IMDb in {given.imdb}: the sample reviews are taken", file=sys.stderr)
        given.imdb = None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for part in given.parts or ([] if given.write_docs else _USUAL):
        module = importlib.import_module(f"tests.bench.{_MODULES[part]}")
        found = module.measure(given)
        path = results.write(found, given.out)
        print(tables.markdown(found))
        print(f"-> {path}", file=sys.stderr)
    if given.write_docs:
        summary = tables.SUMMARY if given.page == tables.PAGE else None
        tables.write_docs(results.read(given.out), given.page, summary)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("parts", nargs="*", help=", ".join(_MODULES))
    add = parser.add_argument
    add("--quick", action="store_true", help="tiny sizes: that it runs, not how fast")
    add("--rounds", type=int, default=5, help="rounds that count")
    add("--rows", type=int, default=512, help="reviews that are timed")
    add("--judged-rows", type=int, default=5000, help="held-out reviews whose answers are compared")
    add(
        "--band-rows",
        type=int,
        default=5000,
        help="others that cascades are fitted on (price-list)",
    )
    add("--train-rows", type=int, default=4000, help="reviews the model is trained on")
    add("--training-rows", type=int, default=128, help="reviews of a timed training")
    add("--sample-rows", type=int, default=300, help="training reviews for int8's calibration")
    add("--linear-rows", type=int, default=25_000, help="reviews for the linear models")
    add("--train-sizes", type=int, nargs="+", default=[4000], help="reviews (accuracy)")
    add("--seeds", type=int, default=3, help="trainings of each recipe (accuracy)")
    add("--epochs", type=int, default=2, help="passes over the reviews (accuracy)")
    add(
        "--textbook",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="train as the textbook does, too: hours (accuracy)",
    )
    add(
        "--also",
        type=_named_path,
        action="append",
        default=[],
        help="NAME=settings.json (accuracy)",
    )
    add(
        "--model",
        type=Path,
        help="a folder that was saved by Nightshift, in place of the one made here",
    )
    add(
        "--model-of",
        type=_named_model,
        action="append",
        default=[],
        help="NAME=folder[:engine] (price-list)",
    )
    add("--engines", nargs="+", help="engines (scoring, price-list, cold-start)")
    add("--only-peers", nargs="+", default=[], help="kinds of peers, such as pipeline ctranslate2")
    add("--base", default="minilm", help="base model of trainings")
    add("--imdb", type=Path, default=data.IMDB, help="folder with IMDb's Parquet files")
    add("--peers", type=Path, help="interpreter of the peers' environment")
    add("--price-an-hour", type=float, default=0.10, help="of this machine, for the cost")
    add("--label", default="", help="to keep beside others of the same part, such as tcmalloc")
    add("--home", type=Path, default=subject.HOME, help="where models are kept")
    add("--out", type=Path, help="where results go (docs/bench)")
    add("--page", type=Path, default=tables.PAGE, help="the page with the tables")
    add(
        "--write-docs",
        action="store_true",
        help="make tables and plots of the page from the results",
    )
    return parser


def _named_path(told: str) -> tuple[str, Path]:
    name, _, path = told.partition("=")
    return name, Path(path)


def _named_model(told: str) -> tuple[str, Path, str]:
    name, _, rest = told.partition("=")
    folder, _, engine = rest.partition(":")
    return name, Path(folder), engine


if __name__ == "__main__":
    main()
