"""Run measurements: `python -m benchmarks.speed scoring price-list ... --write-docs`; by default, the usual ones."""

import argparse
import importlib
import sys
from pathlib import Path

import transformers

from benchmarks.speed import data, results, subject, tables
from flows.forms.recipes import RECIPES

_MODULES = {
    "scoring": "scoring",
    "price-list": "price_list",
    "training": "training",
    "accuracy": "accuracy",
    "sweep": "sweep",
    "cold-start": "cold_start",
}
_USUAL = ("scoring", "price-list", "training", "cold-start")
#: For --quick, which runs everything with sizes too small for meaningful figures.
_QUICK = {
    "rows": 16, "judged_rows": 32, "rounds": 1, "train_rows": 48, "training_rows": 16,
    "band_rows": 32, "sample_rows": 16, "linear_rows": 64, "seeds": 1, "epochs": 1, "train_sizes": [32],
}  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Run the requested measurements, save them, and regenerate the tables if requested."""
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
        module = importlib.import_module(f"benchmarks.speed.{_MODULES[part]}")
        found = module.measure(given)
        path = results.write(found, given.out)
        print(tables.markdown(found))
        print(f"-> {path}", file=sys.stderr)
    if given.write_docs:
        summary = tables.SUMMARY if given.page == tables.PAGE else None
        tables.write_docs(results.read(given.out), given.page, summary)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed")
    parser.add_argument("parts", nargs="*", help=", ".join(_MODULES))
    _add_sizes(parser)
    _add_models(parser)
    _add_places(parser)
    return parser


def _add_sizes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how much")
    group.add_argument(
        "--quick", action="store_true", help="tiny sizes: that it runs, not how fast"
    )
    for name, size, told in (
        ("rounds", 5, "rounds that count"),
        ("rows", 512, "reviews that are timed"),
        ("judged-rows", 5000, "held-out reviews whose answers are compared"),
        ("band-rows", 5000, "others that cascades are fitted on"),
        ("train-rows", 4000, "reviews the model is trained on"),
        ("training-rows", 128, "reviews of a timed training"),
        ("sample-rows", 300, "training reviews for int8's calibration"),
        ("linear-rows", 25_000, "reviews for the linear models"),
        ("seeds", 3, "trainings of each recipe (accuracy, sweep)"),
        ("epochs", 2, "passes over the reviews (accuracy, sweep)"),
    ):
        group.add_argument(f"--{name}", type=int, default=size, help=told)
    group.add_argument(
        "--train-sizes", type=int, nargs="+", default=[4000], help="reviews (accuracy, sweep)"
    )


def _add_models(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("which models, engines and peers").add_argument
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
    add("--recipes", nargs="+", choices=RECIPES, default=[], help="of the form (accuracy)")
    add("--model", type=Path, help="a folder that Nightshift saved, in place of the one made here")
    add(
        "--model-of",
        type=_named_model,
        action="append",
        default=[],
        help="NAME=folder[:engine] (price-list)",
    )
    add("--engines", nargs="+", help="engines (scoring, price-list, cold-start)")
    add(
        "--trainings",
        nargs="+",
        default=[],
        help="rows beside the textbook's (training), the defaults' (sweep)",
    )
    add("--only-peers", nargs="+", default=[], help="kinds of peers, such as pipeline ctranslate2")
    add("--base", default="minilm", help="base model of trainings")


def _add_places(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("where from and where to").add_argument
    add("--imdb", type=Path, default=data.IMDB, help="folder with IMDb's Parquet files")
    add("--peers", type=Path, help="interpreter of the peers' environment")
    add("--price-an-hour", type=float, default=0.10, help="of this machine, for the cost")
    add("--label", default="", help="to keep beside others of the same part, such as tcmalloc")
    add("--home", type=Path, default=subject.HOME, help="where models are kept")
    add("--out", type=Path, help="where results go (docs/bench)")
    add("--page", type=Path, default=tables.PAGE, help="the page with the tables")
    add("--write-docs", action="store_true", help="make tables and plots of the page from results")


def _named_path(told: str) -> tuple[str, Path]:
    name, _, path = told.partition("=")
    return name, Path(path)


def _named_model(told: str) -> tuple[str, Path, str]:
    name, _, rest = told.partition("=")
    folder, _, engine = rest.partition(":")
    return name, Path(folder), engine


if __name__ == "__main__":
    main()
