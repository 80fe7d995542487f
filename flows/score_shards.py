"""score-shards: score a share of a scoring run on any machine, and distribute the shares."""

import importlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.futures import PrefectFuture

from flows.forms.flow import form_flow
from flows.forms.scoring import ScoreShardsParams
from tasks.core.errors import SettingsError
from tasks.core.records import Record
from tasks.core.scoring.params import EngineParams
from tasks.runtime.reporting.progress import ProgressMeter, use_meter
from tasks.runtime.reporting.silence import still_doing
from tasks.runtime.runs.parent_run import cancelled_with_parent
from tasks.runtime.runs.remote_runs import run_on_pool, save_result
from tasks.runtime.settings import read_settings
from tasks.scoring.planning import RunReference
from tasks.scoring.progress import ShardDone, Watch
from tasks.scoring.shards import score_shard

logger = logging.getLogger(__name__)

_BAR = "scoring-progress"
_LOOK_SECONDS = 10.0

_TASK_RUNNERS = {
    "ray": ("prefect_ray", "RayTaskRunner"),
    "dask": ("prefect_dask", "DaskTaskRunner"),
}


class ShareDone(Record):
    """The result of a share of a run."""

    shards: int
    rows: int


@form_flow(ScoreShardsParams, name="score-shards")
def score_shards(params: ScoreShardsParams) -> ShareDone:
    """Score some shards of a frozen run, one after the other."""
    with cancelled_with_parent():
        done = _one_by_one(params.run, params.shards, params.engine, params.size)
        share = ShareDone(shards=len(done), rows=sum(d.rows for d in done))
        save_result(share)
        return share


def _one_by_one(
    run_uri: str, numbers: list[int], engine: EngineParams, size: int
) -> list[ShardDone]:
    done: list[ShardDone] = []
    with use_meter(ProgressMeter("reviews", size, _BAR if size else "")) as meter:
        for number in numbers:
            done.append(score_shard(run_uri, number, engine))
            logger.info(meter.text())
    return done


@flow(name="score-shards-as-tasks")
def _score_as_tasks(params: ScoreShardsParams) -> None:
    """Score each shard as a task of its own, wherever the task runner runs it."""
    _watched(
        params.run,
        params.size,
        [score_shard.submit(params.run, n, params.engine) for n in params.shards],
    )


def _watched(run_uri: str, size: int, under_way: Sequence[PrefectFuture[Any]]) -> None:
    """Wait for all, and show the progress on the run's page. Raises the error of the first one that failed."""
    meter = ProgressMeter("reviews", size, _BAR)
    watch, looked = Watch(run_uri, meter), time.monotonic()
    watch.look()
    with still_doing("waiting for the workers"):
        for waiting in under_way:
            over = False
            while not over:
                try:
                    waiting.result(timeout=_LOOK_SECONDS, raise_on_failure=False)
                    over = True
                except TimeoutError:
                    pass
                if time.monotonic() - looked >= _LOOK_SECONDS:  # also for many short shards
                    watch.look()
                    looked = time.monotonic()
    watch.look()
    logger.info(meter.text())
    for waiting in under_way:
        waiting.result()


def score_together(run: RunReference, engine: EngineParams, workers: int) -> None:
    """Score all shards of a run: one after the other in this process, or shared among workers if configured.

    Raises:
        SettingsError: several workers are requested, but no setting selects how to run them, or its package is missing.
    """
    numbers = list(range(run.shards))
    shares = [share for i in range(workers) if (share := numbers[i::workers])]
    settings = read_settings()
    if len(shares) < 2:
        _one_by_one(run.place, numbers, engine, run.bytes)
    elif settings.task_runner != "none":
        runner = _task_runner(settings.task_runner, len(shares))
        everything = ScoreShardsParams(run=run.place, shards=numbers, size=run.bytes, engine=engine)
        _score_as_tasks.with_options(task_runner=runner)(everything)
    elif settings.scoring_deployment:
        _on_pool(settings.scoring_deployment, run, shares, engine)
    else:
        raise SettingsError(
            f"{workers} workers were requested, but no setting says where they run",
            "workers",
            "set NIGHTSHIFT_SCORING_DEPLOYMENT=score-shards/score-shards, or NIGHTSHIFT_TASK_RUNNER=ray or dask",
        )


def _on_pool(
    deployment: str, run: RunReference, shares: list[list[int]], engine: EngineParams
) -> None:
    sizes = [run.bytes * len(share) // run.shards for share in shares]
    requests = [
        ScoreShardsParams(run=run.place, shards=share, size=size, engine=engine)
        for share, size in zip(shares, sizes, strict=True)
    ]
    under_way = [run_on_pool.submit(deployment, params.model_dump()) for params in requests]
    _watched(run.place, run.bytes, under_way)


def _task_runner(name: str, workers: int) -> Any:
    """Return Prefect's task runner: on a local cluster unless RAY_ADDRESS or DASK_SCHEDULER_ADDRESS is set.

    It is in an optional extra.
    """
    module, kind = _TASK_RUNNERS[name]
    try:
        runner = getattr(importlib.import_module(module), kind)
    except ImportError as error:
        raise SettingsError(
            f"{module} is not installed",
            "NIGHTSHIFT_TASK_RUNNER",
            "pip install --no-deps --require-hashes -r deployments/locks/engines.txt -r deployments/locks/extras.txt",
        ) from error
    settings = read_settings()
    if address := settings.task_runner_address:
        return runner(address=address)
    if name == "ray":
        return runner(init_kwargs={"num_cpus": workers, "include_dashboard": False})
    return runner(cluster_kwargs={"n_workers": workers, "threads_per_worker": 1})
