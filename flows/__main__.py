"""Run a flow from the command line: `python -m flows demo`, `python -m flows retrain --data.source.location ...`.

What is not configured (S3, Prefect, MLflow) is started for the time of the run. An error that a person can mend is one
sentence on stderr and exit status 2.
"""

import importlib
import signal
import sys
import time
from typing import Any, NoReturn

from rich.console import Console

from tasks.core.errors import NightshiftError
from tasks.services import local_services, set_client_defaults

_USAGE = """usage: python -m flows FLOW [--FIELD VALUE ...]

flows:
  demo      everything at once, on the sample reviews
  retrain   labelled reviews -> a registered model (and the champion, if it deserves it)
  score     reviews below an s3:// prefix -> predictions
  verify    is a scoring run complete? proven from the object store alone
  trace     a prediction -> the model, its training data, the code

`python -m flows FLOW --help` lists its fields; `--training.epochs 2` sets one."""

# The standard library has a module `trace`, which one of ours would hide: Prefect puts a flow's folder on sys.path.
_MODULES = {"trace": "flows.trace_prediction"}


def main(arguments: list[str] | None = None) -> int:
    """Run the flow that the arguments name; returns the exit status."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    if name not in ("demo", "retrain", "score", "verify", "trace"):
        (console if name in ("-h", "--help") else errors).print(_USAGE, markup=False)
        return 0 if name in ("-h", "--help") else 2
    signal.signal(signal.SIGTERM, _interrupted)
    started = time.perf_counter()
    set_client_defaults()
    try:
        params = _parse(name, rest)
        with local_services(
            prepare=lambda: importlib.import_module(_MODULES.get(name, f"flows.{name}"))
        ):
            _run(name, params, console, started)
    except NightshiftError as error:
        errors.print(f"[bold red]error[/]: {type(error).__name__}", end=": ")
        errors.print(str(error), markup=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        errors.print("interrupted")
        return 130
    return 0


def _interrupted(*_: object) -> NoReturn:
    raise SystemExit(143)


def _parse(name: str, arguments: list[str]) -> Any:
    """The flow's parameters from `--a.b value` arguments. Raises SettingsError on a value that does not fit."""
    from flows.command_line import parse

    return parse(name, arguments)


def _run(name: str, params: Any, console: Console, started: float) -> None:
    # Prefect reads its settings when it is first imported: only now do they stand.
    from flows import summaries

    if name == "demo":
        from flows.demo import demo, demo_parameters

        summaries.show_demo(console, demo(*demo_parameters()), time.perf_counter() - started)
    elif name == "retrain":
        from flows.retrain import retrain

        summaries.show_retrained(console, retrain(params))
    elif name == "score":
        from flows.score import score

        summaries.show_scored(console, score(params))
    elif name == "verify":
        from flows.verify import verify

        summaries.show_proof(console, verify(params))
    else:
        from flows.trace_prediction import trace

        summaries.show_provenance(console, trace(params))


if __name__ == "__main__":
    sys.exit(main())
