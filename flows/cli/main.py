"""Run a flow from the command line: `python -m flows demo`, `python -m flows retrain --data.source.location ...`.

Services that are not configured (S3, Prefect, MLflow) are started for the duration of the run. An error that the user
can fix is one sentence on stderr, with exit status 2.
"""

import contextlib
import difflib
import importlib
import signal
import sys
import time
from typing import Any, NoReturn

from tasks.core.errors import NightshiftError, SettingsError
from tasks.runtime.reporting.silence import still_doing
from tasks.runtime.reporting.terminal import Terminal

_USAGE = """usage: python -m flows FLOW [--FIELD VALUE ...]

flows:
  demo       run everything once, on the sample reviews
  retrain    train and register a model; make it champion if it passes the gate
  tune       search for the best training settings, then continue like retrain
  score      score the reviews below an s3:// prefix
  verify     check from the object store alone that a scoring run is complete
  trace      show the lineage of predictions, a version or data
  promote    make a registered version the champion
  rollback   make the previous champion the champion again
  history    list all changes of the champion: when, by whom and why
  retention  delete old versions that nothing needs

other commands:
  open       open the service (`make up` or `make up-ha`) in the browser

`python -m flows FLOW --help` lists the fields of a flow.
`python -m flows retrain --training.epochs 2` sets a field."""

# Each flow: its module, and the function of `flows.cli.summaries` that prints its result. Prefect puts a flow's folder
# on sys.path, where a module `trace` would hide the standard library's.
_FLOWS = {
    "demo": ("flows.demo", "show_demo"),
    "retrain": ("flows.retrain", "show_retrained"),
    "tune": ("flows.tune", "show_tuned"),
    "score": ("flows.score", "show_scored"),
    "verify": ("flows.verify", "show_proof"),
    "trace": ("flows.trace_prediction", "show_provenance"),
    "promote": ("flows.promote", "show_move"),
    "rollback": ("flows.rollback", "show_move"),
    "history": ("flows.history", "show_history"),
    "retention": ("flows.retention", "show_retained"),
}
# Flows that answer in seconds while the user waits: without servers they fail within a minute.
_AT_ONCE = {"verify", "trace", "promote", "rollback", "history", "retention"}


def main(arguments: list[str] | None = None) -> int:
    """Run the flow that the arguments name; return the exit status."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    console, errors = Terminal(), Terminal(stderr=True)
    if name not in _FLOWS and [name, *rest] != ["open"]:
        return _usage(name, console, errors)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    try:
        if name == "open":
            from flows.cli.opening import open_page

            open_page(console)
        else:
            _run_flow(name, rest, console, errors)
    except NightshiftError as error:
        errors.print_error(error)
        return 2
    except KeyboardInterrupt:
        errors.print("interrupted")
        return 130
    return 0


def _usage(name: str, console: Terminal, errors: Terminal) -> int:
    """Print the list of flows, on stderr if an unknown flow was given; return the exit status."""
    if name in ("-h", "--help"):
        console.print(_USAGE)
        return 0
    near = difflib.get_close_matches(name, [*_FLOWS, "open"], 2)
    meant = f"did you mean {' or '.join(near)}?" if near else "its flows are listed above"
    errors.print(_USAGE)
    errors.print_error(SettingsError(f"There is no flow {name!r}", "", meant))
    return 2


def _interrupted(*_: object) -> NoReturn:
    raise SystemExit(143)


def _run_flow(name: str, arguments: list[str], console: Terminal, errors: Terminal) -> None:
    started = time.perf_counter()
    params = _parse(name, arguments)
    # Libraries and servers take seconds to start. On stderr, as stdout is for the result.
    errors.print(f"Starting {name} ...")
    with contextlib.ExitStack() as services:
        with still_doing(f"starting {name}", errors.print):
            # Imported late: a mistyped field or --help does not wait for the libraries of the services.
            from tasks.runtime.local_services import local_services, set_client_defaults

            set_client_defaults(impatient=name in _AT_ONCE)
            services.enter_context(local_services(prepare=lambda: _prepare(name, errors)))
        _run(name, params, console, started)


def _prepare(name: str, errors: Terminal) -> None:
    """Check that the object store answers, and import the flow."""
    from tasks.runtime.waiting import await_object_store

    await_object_store(errors, gives_up=name in _AT_ONCE)
    importlib.import_module(_FLOWS[name][0])
    if name in _AT_ONCE:
        from tasks.runtime.steps import disable_retries

        disable_retries()


def _parse(name: str, arguments: list[str]) -> Any:
    """Parse the flow's parameters from `--a.b value` arguments. Raises SettingsError for an invalid value."""
    from flows.cli.arguments import parse

    return parse(name, arguments)


def _run(name: str, params: Any, console: Terminal, started: float) -> None:
    # Imported late: Prefect reads its settings when it is first imported, and they are set only now.
    from flows.cli import summaries
    from tasks.runtime.reporting.logs import log_for_people

    log_for_people(command=True)
    module, show = _FLOWS[name]
    flow_module = importlib.import_module(module)
    flow: Any = getattr(flow_module, name)
    if name == "demo":
        result = flow(*flow_module.demo_parameters())
        summaries.show_demo(console, result, time.perf_counter() - started)
    else:
        getattr(summaries, show)(console, flow(params))
