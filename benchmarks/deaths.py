"""Kill processes and services for real, and measure what the user sees and how long recovery takes: `make deaths`.

    python -m benchmarks.deaths                every death (some 25 minutes)
    python -m benchmarks.deaths kill-training  some of them

It starts a separate service (`make up` in a temporary folder), puts labelled reviews into its object store, and starts
`retrain` as the Run button does. Then something is killed. The outcome is read from Prefect, MLflow and the object
store, and the trained weights are compared with those of an undisturbed training.
"""

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from deployments.stack.programs import WORKER_ENVIRONMENT
from tasks.connectors.storage.artifacts import PreparedStore
from tasks.core.data.tokens.token_tables import read_tokens
from tasks.core.training import fine_tuning
from tasks.core.training.job import TrainingJob
from tasks.core.training.protocols import SilentListener
from tasks.core.training.records import BaseModelSummary, TokensSummary
from tasks.runtime.local_services import CLIENT_DEFAULTS
from tests.models import tiny_bert
from tests.reviews import jsonl, reviews
from tests.service.stack import Service, wait_for

BUCKET = "nightshift"
EPOCHS = 12
# On two cores, two processes of two threads each are many times slower than two of one thread; and one thread makes the
# weights reproducible.
_SETTINGS = {"NIGHTSHIFT_CHECKPOINT_SECONDS": "3", "OMP_NUM_THREADS": "1"}


@dataclass
class Death:
    """The result of one death."""

    name: str
    what: str
    seen: str = ""
    seconds: float = 0.0  # from the death until the work went on, or had ended properly
    end: str = ""
    checks: dict[str, bool] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """True if all checks passed."""
        return bool(self.checks) and all(self.checks.values())


class Scene:
    """The service, the reviews, and helpers that every death uses."""

    def __init__(self, service: Service, folder: Path, prefix: str) -> None:
        self.service, self.folder = service, folder
        self.prepared = PreparedStore(service.store(), BUCKET)
        self.location = prefix
        self._base = str(tiny_bert(folder))
        self._seed = 0

    def params(self) -> dict[str, Any]:
        """Parameters of a retraining of half a minute or so; each has a seed of its own, so that nothing is reused."""
        self._seed += 1
        return {
            "data": {"source": {"location": self.location}},
            "tokenization": {"max_length_tokens": 48},
            "training": {
                "base_model": self._base,
                "epochs": EPOCHS,
                "early_stopping_patience": 0,
                "learning_rate": 1e-3,
                "precision": "fp32",
                "device": "cpu",
                "seed": self._seed,
            },
            "evaluation": {"resamples": 100},
            "gate": {"must_beat_baseline": False},
            "registration": {"model_name": "deaths"},
        }

    def press_run(self, params: dict[str, Any]) -> str:
        """Start a retraining."""
        return self.service.press_run("retrain/retrain", params)

    def training_under_way(self, parent: str, than: int = 0) -> dict[str, Any]:
        """Wait until the child run has kept a checkpoint, and return it; `than`: the number of earlier children."""

        def look() -> dict[str, Any] | None:
            children = self.service.children(parent)
            if len(children) <= than or children[-1]["state_type"] != "RUNNING":
                return None
            kept = any(
                "Checkpoint of step" in line for line in self.service.log(children[-1]["id"])
            )
            return children[-1] if kept else None

        return wait_for(look, 180, "a training with a checkpoint")

    def gone_on(self, parent: str, than: int) -> dict[str, Any]:
        """Wait for the child that took over, and return it once its log names the checkpoint."""

        def look() -> dict[str, Any] | None:
            children = self.service.children(parent)
            if len(children) <= than:
                return None
            lines = self.service.log(children[-1]["id"])
            return children[-1] if any("Resuming training from" in line for line in lines) else None

        return wait_for(look, 400, "a child that goes on")

    def process(self, run_id: str) -> psutil.Process:
        """Return the process of a flow run."""
        found = self.service.flow_process(run_id)
        assert found, f"no process of {run_id}"
        return found

    def said(self, run_id: str, *words: str) -> str:
        """Return the last line of a run's page with one of these words."""
        lines = [x for x in self.service.log(run_id) if any(word in x for word in words)]
        return lines[-1].strip() if lines else ""

    def message(self, run_id: str) -> str:
        """Return the message of a run's state."""
        return str((self.service.run(run_id).get("state") or {}).get("message") or "")

    def left_running(self) -> int:
        """Count the MLflow runs in state RUNNING."""
        client = self.service.registry()._client
        found = client.search_experiments()
        ids = [experiment.experiment_id for experiment in found]
        return len(client.search_runs(ids, "attributes.status = 'RUNNING'"))

    def none_left_running(self, seconds: float = 60) -> bool:
        """True if MLflow has no run left in state RUNNING within the given time."""
        with contextlib.suppress(TimeoutError):
            return wait_for(lambda: self.left_running() == 0, seconds, "MLflow runs to be closed")
        return False

    def equals_undisturbed(self, child: str, params: dict[str, Any]) -> bool:
        """Check that a training's weights equal, byte for byte, those of the same training without any service."""
        given = self.service.run(child)["parameters"]["params"]
        tokens = self.prepared.reference(given["tokens"], TokensSummary)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self.prepared.fetch(tokens.uri, folder / "tokens")
            base = self.prepared.reference(given["base_model"], BaseModelSummary)
            self.prepared.fetch(base.uri, folder / "base")
            made = [m for m in self.prepared.all("model") if m.inputs["tokens"] == tokens.digest]
            (model,) = [
                m for m in made if m.inputs["training"]["seed"] == params["training"]["seed"]
            ]
            self.prepared.fetch(self.prepared.uri("model", model.digest), folder / "model")
            trained = bare_fine_tune(folder, tokens.summary, params)
            ours = load_file(folder / "model" / "model.safetensors")
            theirs = trained.classifier.model.state_dict()
            return all(torch.equal(ours[key], theirs[key]) for key in ours)


def bare_fine_tune(
    folder: Path, tokens: TokensSummary, params: dict[str, Any]
) -> fine_tuning.Trained:
    """Run the training without any service: core's own call, on `tokens/` and `base/` in a folder."""
    return fine_tuning.fine_tune(
        TrainingJob(
            base_folder=folder / "base",
            label_names=tokens.label_names,
            tokenization=params["tokenization"],
            params=params["training"],
        ),
        *read_tokens(folder / "tokens", ("train", "validation")),
        folder / "work",
        SilentListener(),
    )


def kill_training(scene: Scene) -> Death:
    death = Death("kill-training", "SIGKILL of the training process in mid-epoch")
    params = scene.params()
    parent = scene.press_run(params)
    child = scene.training_under_way(parent)
    scene.process(child["id"]).kill()
    died = time.monotonic()
    successor = scene.gone_on(parent, than=1)
    death.seconds = time.monotonic() - died
    death.seen = scene.said(successor["id"], "Resuming training from")
    death.end = scene.service.until(parent, seconds=300)
    death.checks = {
        "the run completes": death.end == "COMPLETED",
        "the dead child says Crashed": scene.service.state(child["id"]) == "CRASHED",
        "weights equal to the byte": scene.equals_undisturbed(successor["id"], params),
        "no MLflow run left RUNNING": scene.none_left_running(),
        "no checkpoint left": not _checkpoints(scene),
    }
    return death


def _checkpoints(scene: Scene) -> list[str]:
    from tasks.core.errors import MissingDataError

    with contextlib.suppress(MissingDataError):
        found = scene.prepared.store.list(f"s3://{BUCKET}/prepared/")
        return [o.key for o in found if o.key.startswith("prepared/checkpoint-")]
    return []


def _kill_worker(
    scene: Scene, death: Death, kill: Callable[[psutil.Process, psutil.Process], None]
) -> Death:
    params = scene.params()
    parent = scene.press_run(params)
    child = scene.training_under_way(parent)
    worker = psutil.Process(scene.service.program("gpu-worker").pid)
    kill(worker, scene.process(child["id"]))
    died = time.monotonic()
    wait_for(
        lambda: scene.service.program("gpu-worker").pid not in (0, worker.pid),
        60,
        "supervisor to start the worker again",
    )
    again = time.monotonic() - died

    def gone_on() -> str:
        children = scene.service.children(parent)
        if len(children) > 1 and scene.said(children[-1]["id"], "Resuming training from"):
            return "successor"
        return "itself" if scene.service.state(child["id"]) == "COMPLETED" else ""

    who = wait_for(gone_on, 500, "the training to go on")
    death.seconds = time.monotonic() - died
    last = scene.service.children(parent)[-1]["id"]
    death.end = scene.service.until(parent, seconds=300)
    seen = (
        scene.message(child["id"])
        if who == "successor"
        else "the training itself went on to its end"
    )
    death.seen = f"worker back after {again:.0f} s; {seen}"
    if who == "itself":
        death.seconds = again
    death.checks = {
        "the run completes": death.end == "COMPLETED",
        "weights equal to the byte": scene.equals_undisturbed(last, params),
        "no MLflow run left RUNNING": scene.none_left_running(),
    }
    return death


def term_worker(scene: Scene) -> Death:
    return _kill_worker(
        scene,
        Death("term-worker", "SIGTERM of the GPU worker"),
        lambda worker, _: worker.terminate(),
    )


def kill_worker(scene: Scene) -> Death:
    return _kill_worker(
        scene, Death("kill-worker", "SIGKILL of the GPU worker"), lambda worker, _: worker.kill()
    )


def kill_machine(scene: Scene) -> Death:
    def both(worker: psutil.Process, flow: psutil.Process) -> None:
        family = [*worker.children(recursive=True), flow, worker]
        worker.suspend()  # so that it cannot report anything
        for process in {p.pid: p for p in family}.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    return _kill_worker(
        scene,
        Death("kill-machine", "SIGKILL of the GPU worker and its training at once"),
        both,
    )


def kill_parent(scene: Scene) -> Death:
    death = Death("kill-parent", "SIGKILL of the retrain run that waits for the training")
    parent = scene.press_run(scene.params())
    child = scene.training_under_way(parent)
    scene.process(parent).kill()
    died = time.monotonic()
    death.end = scene.service.until(parent, "CRASHED", seconds=240)
    state = scene.service.until(child["id"], seconds=120)
    death.seconds = time.monotonic() - died
    death.seen = scene.message(parent)
    death.checks = {
        "the training is cancelled": state == "CANCELLED",
        "no MLflow run left RUNNING": scene.none_left_running(),
    }
    return death


def cancel(scene: Scene) -> Death:
    death = Death("cancel", "Cancel in the UI")
    parent = scene.press_run(scene.params())
    child = scene.training_under_way(parent)
    scene.service.api(
        f"flow_runs/{parent}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    )
    died = time.monotonic()
    death.end = scene.service.until(parent, seconds=120)
    state = scene.service.until(child["id"], seconds=120)
    death.seconds = time.monotonic() - died
    death.seen = f"{scene.message(parent) or death.end}; training {state.lower()}"
    death.checks = {
        "the run is cancelled": death.end == "CANCELLED",
        "the training is cancelled": state == "CANCELLED",
        "no process of it left": not scene.service.flow_process(child["id"]),
        "no MLflow run left RUNNING": scene.none_left_running(),
    }
    return death


@contextlib.contextmanager
def _away(scene: Scene, program: str) -> Generator[None]:
    scene.service.supervisor.stop_program(program)
    try:
        yield
    finally:
        scene.service.supervisor.start_program(program)


def restart_prefect(scene: Scene) -> Death:
    death = Death("restart-prefect", "Prefect server away for 20 s in mid-training")
    params = scene.params()
    parent = scene.press_run(params)
    child = scene.training_under_way(parent)
    before = scene.said(child["id"], "Checkpoint of step")
    with _away(scene, "prefect"):
        time.sleep(20)
    back = time.monotonic()
    wait_for(lambda: scene.service.api("health") is True, 60, "the server to answer")
    death.seconds = time.monotonic() - back
    death.end = scene.service.until(parent, seconds=400)
    death.seen = scene.said(parent, "does not answer") or "nothing; the training went on"
    children = scene.service.children(parent)
    death.checks = {
        "the run completes": death.end == "COMPLETED",
        "weights equal to the byte": scene.equals_undisturbed(children[-1]["id"], params),
        "no MLflow run left RUNNING": scene.none_left_running(),
        "it had begun before": bool(before),
    }
    return death


def mlflow_away(scene: Scene) -> Death:
    death = Death("mlflow-away", "MLflow away for 60 s while registering")
    parent = scene.press_run(scene.params())
    wait_for(lambda: scene.said(parent, "Trained "), 240, "the training to end")
    with _away(scene, "mlflow"):
        gone = time.monotonic()
        wait_for(lambda: scene.said(parent, "will be retried", "Retr", "retry"), 90, "a retry")
        death.seen = scene.said(parent, "failed:", "Retr", "retry")
        time.sleep(max(0.0, 60 - (time.monotonic() - gone)))
    back = time.monotonic()
    death.end = scene.service.until(parent, seconds=400)
    death.seconds = time.monotonic() - back
    death.checks = {
        "the run completes": death.end == "COMPLETED",
        "no MLflow run left RUNNING": scene.none_left_running(),
    }
    return death


def store_away(scene: Scene) -> Death:
    death = Death("store-away", "Object store away for 30 s in mid-training")
    params = scene.params()
    parent = scene.press_run(params)
    child = scene.training_under_way(parent)
    with _away(scene, "object-store"):
        time.sleep(30)
    back = time.monotonic()
    kept = len([x for x in scene.service.log(child["id"]) if "Checkpoint of step" in x])

    def on() -> bool:
        lines = scene.service.log(child["id"])
        more = len([x for x in lines if "Checkpoint of step" in x]) > kept
        return more or scene.service.state(parent) == "COMPLETED"

    wait_for(on, 200, "checkpoints to be kept again")
    death.seconds = time.monotonic() - back
    death.end = scene.service.until(parent, seconds=300)
    death.seen = scene.said(child["id"], "was not saved") or "nothing; uploads waited"
    children = scene.service.children(parent)
    death.checks = {
        "the run completes": death.end == "COMPLETED",
        "weights equal to the byte": scene.equals_undisturbed(children[-1]["id"], params),
        "no MLflow run left RUNNING": scene.none_left_running(),
    }
    return death


def no_worker(scene: Scene) -> Death:
    minutes = 5
    death = Death("no-worker", f"No GPU worker for {minutes} minutes")
    with _away(scene, "gpu-worker"):
        parent = scene.press_run(scene.params())
        wait_for(lambda: scene.service.children(parent), 120, "the training to be queued")
        time.sleep(minutes * 60)
        death.seen = scene.said(parent, "NO WORKER")
    back = time.monotonic()
    child = scene.service.children(parent)[0]["id"]
    scene.service.until(child, "RUNNING", "COMPLETED", seconds=120)
    death.seconds = time.monotonic() - back
    death.end = scene.service.until(parent, seconds=300)
    death.checks = {
        "the run completes": death.end == "COMPLETED",
        "it said so": bool(death.seen),
        "no MLflow run left RUNNING": scene.none_left_running(),
    }
    return death


def disk_full(scene: Scene) -> Death:
    death = Death("disk-full", "The disk of the GPU worker becomes full in mid-training")
    small = scene.folder / "small-disk"
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", small], check=False
    ).returncode:
        death.seen, death.checks = (
            "not done: a small disk can only be mounted by root",
            {"mounted": False},
        )
        return death
    params = scene.params()
    with _away(scene, "gpu-worker"), contextlib.ExitStack() as undo:
        undo.callback(subprocess.run, ["umount", "-l", small], check=False)
        given = (
            scene.service.environment
            | CLIENT_DEFAULTS
            | WORKER_ENVIRONMENT
            | _SETTINGS
            | {"TMPDIR": str(small)}
        )
        command = [sys.executable, "-m", "deployments.worker", "gpu"]
        log = (scene.folder / "small-worker.log").open("w")
        worker = subprocess.Popen(command, env=given, stdout=log, stderr=log)
        try:
            parent = scene.press_run(params)
            scene.training_under_way(parent)
            _fill(small)
            died = time.monotonic()
            death.end = scene.service.until(parent, seconds=200)
            death.seconds = time.monotonic() - died
            death.seen = scene.message(parent)
        finally:
            worker.terminate()
            worker.wait()
    again = scene.press_run(params)  # the next night, on a larger disk
    end = scene.service.until(again, seconds=300)
    successor = scene.service.children(again)[-1]["id"]
    death.checks = {
        "the run fails": death.end == "FAILED",
        "in a sentence": "disk" in death.seen.lower() and "TMPDIR" in death.seen,
        "the next run goes on from the checkpoint": bool(
            scene.said(successor, "Resuming training from")
        ),
        "and completes": end == "COMPLETED",
        "weights equal to the byte": scene.equals_undisturbed(successor, params),
        "no MLflow run left RUNNING": scene.none_left_running(),
    }
    return death


def _fill(folder: Path) -> None:
    with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as stream:
        while True:
            stream.write(os.urandom(1 << 16))


DEATHS: dict[str, Callable[[Scene], Death]] = {
    "kill-training": kill_training,
    "term-worker": term_worker,
    "kill-worker": kill_worker,
    "kill-machine": kill_machine,
    "kill-parent": kill_parent,
    "cancel": cancel,
    "restart-prefect": restart_prefect,
    "mlflow-away": mlflow_away,
    "store-away": store_away,
    "no-worker": no_worker,
    "disk-full": disk_full,
}


@contextlib.contextmanager
def staged() -> Generator[Scene]:
    """Yield a service with labelled reviews in it."""
    with tempfile.TemporaryDirectory(prefix="nightshift-deaths-") as name:
        folder = Path(name)
        service = Service(folder / "home", **_SETTINGS)
        service.up()
        try:
            prefix = f"s3://{BUCKET}/deaths/labelled"
            store = service.store()
            store.write_bytes(jsonl(reviews(3000, 0)), f"{prefix}/train.jsonl")
            store.write_bytes(jsonl(reviews(100, 1)), f"{prefix}/test.jsonl")
            yield Scene(service, folder, prefix)
        finally:
            service.down()
            print("left after `make down`:", service.left_processes() or "no process", flush=True)


def show(console: Console, deaths: list[Death]) -> None:
    """Print the table, and the failed checks."""
    table = Table("death", "what the user sees", "s to recover", "end", "as it should be")
    for death in deaths:
        wrong = [name for name, passed in death.checks.items() if not passed]
        verdict = "yes" if death.passed else f"NO: {', '.join(wrong) or 'it did not get that far'}"
        table.add_row(death.what, death.seen[:300], f"{death.seconds:.0f}", death.end, verdict)
    console.print(table)


def main() -> int:
    """Run the named deaths, or all; return 1 if a check failed."""
    names = sys.argv[1:] or list(DEATHS)
    if unknown := set(names) - DEATHS.keys():
        print(f"No such death: {', '.join(unknown)}; there are {', '.join(DEATHS)}")
        return 2
    logging.getLogger("tasks").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    console = Console(highlight=False, markup=False)
    done: list[Death] = []
    with staged() as scene:
        for name in names:
            started = time.monotonic()
            try:
                death = DEATHS[name](scene)
            except (TimeoutError, AssertionError) as error:
                death = Death(name, name, seen=str(error), checks={"it got that far": False})
            done.append(death)
            passed = "as it should be" if death.passed else f"WRONG {death.checks}"
            console.print(
                f"{name}: {passed}; recovered in {death.seconds:.0f} s, {time.monotonic() - started:.0f} s in all; "
                f"{death.seen}"
            )
    show(console, done)
    return int(not all(death.passed for death in done))


if __name__ == "__main__":
    sys.exit(main())
