"""The output of `make status`."""

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from deployments.stack import prefect_api
from deployments.stack.supervision import Supervisor
from tasks.connectors.servers.local_stack import Stack
from tasks.runtime.reporting.terminal import Terminal
from tasks.runtime.settings import read_settings


def show_status(console: Terminal, stack: Stack, supervisor: Supervisor) -> int:
    """Show programs, addresses, workers and the next scheduled runs; return 1 if a program does not run."""
    states = supervisor.states()
    settings = read_settings()
    where = {
        "object-store": stack.s3_url,
        "mlflow": stack.mlflow_url,
        "prefect": stack.prefect_url,
    }
    table = Table(box=SIMPLE_HEAD)
    for heading in ("service", "state", "pid", "up for", "where"):
        table.add_column(heading, no_wrap=True)
    for state in states:
        colour = "green" if state.state == "RUNNING" else "bold red"
        address = where.get(state.name) or _pool(state.name)
        table.add_row(
            state.name,
            Text(state.state.lower(), style=colour),
            str(state.pid or ""),
            _duration(state.seconds),
            address,
        )
    console.print(table)
    prefect = stack.prefect_url or settings.prefect_api_url
    console.print(f"  runs, forms, schedules   {prefect}")
    console.print(f"  models, metrics          {stack.mlflow_url or settings.mlflow_tracking_uri}")
    try:
        for name, time in prefect_api.next_runs():
            console.print(f"  next {name:<19} {time.astimezone():%a %Y-%m-%d %H:%M %Z}")
    except OSError as error:
        console.print(f"  the Prefect server does not answer: {error}")
    console.print(f"  logs                     {supervisor.logs}", soft_wrap=True)
    return int(any(state.state != "RUNNING" for state in states))


def _pool(name: str) -> str:
    if not name.endswith("-worker"):
        return ""
    pool = name.removesuffix("-worker")
    try:
        return f"pool {pool}, {len(prefect_api.online_workers(pool))} online"
    except OSError:
        return f"pool {pool}"


def _duration(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
