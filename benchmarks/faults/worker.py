"""A scoring run in a process that may be killed: the same steps as the flow, with a model that costs nothing."""

import itertools
import os
import signal
import socket
from typing import Any

from botocore.client import BaseClient

from benchmarks.faults.parts import CharacterEncoder, TextEngine
from tasks.connectors.storage import client, conditional_writes
from tasks.core.records import ModelVersion
from tasks.core.scoring import sharding
from tasks.core.scoring.params import EngineParams
from tasks.core.scoring.plan import Columns, ScoringRun
from tasks.scoring import planning, shards
from tasks.scoring.finishing import finish_scoring
from tasks.scoring.planning import plan_scoring
from tasks.scoring.shards import score_shard

MODEL = ModelVersion(name="text", version="1", model_digest="0" * 32, run_id="")
ENGINE = EngineParams(window_reviews=64)
_WRITES = (
    "PutObject",
    "DeleteObject",
    "CreateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
)


def small_shards() -> None:
    """Make shards so small that little data fills many."""
    planning.SHARD_BYTES = sharding.SHARD_BYTES = 20_000
    sharding.SHARD_OBJECTS = 8
    sharding.BUNDLE_BYTES = 4_000
    # Larger files are uploaded in parts. Parts are of 16 MB, so these have one.
    conditional_writes.__dict__.update(_ONE_REQUEST_BYTES=10_000)


def be_impatient() -> None:
    """Consider the store unavailable after seconds, so that a stall counts as an outage."""
    client.READ_SECONDS = 1.0


def be_on_a_machine_that_is_lost() -> None:
    """Use a host name per process, as if the machine died with it.

    Otherwise an object that is in work at two deaths would be listed as failed.
    """
    name = f"lost-{os.getpid()}"
    socket.gethostname = lambda: name


def use_text_model(seconds_a_review: float = 0.0, counter: Any = None) -> None:
    """Replace the registered model by the model of `parts`."""
    loaded: Any = (_Classifier(), TextEngine(seconds_a_review, counter))
    shards.__dict__["_loaded"] = lambda *_: loaded


class _Classifier:
    encoder = CharacterEncoder()
    class_costs = ()


def draft(run: str, source: str, output: str, **changed: Any) -> ScoringRun:
    """Draft a run to be planned."""
    given: dict[str, Any] = {
        "run": run,
        "input": source,
        "output": output,
        "model": MODEL,
        "columns": Columns(),
        "output_format": "same",
        "precision": "fp32",
        "max_rejected_share": 0.9,
        "objects": 0,
        "bytes": 0,
        "shards": 0,
        "scored_before": 0,
        "rescore": False,
        "allow_empty": False,
        "code": "",
        "flow_run": "",
    }
    return ScoringRun.model_validate(given | changed)


def run_to_end(run: ScoringRun, params: EngineParams = ENGINE) -> Any:
    """Plan, score and finish, as the flow does; return the summary."""
    planned = plan_scoring.fn(run)
    for number in range(planned.shards):
        score_shard.fn(planned.place, number, params)
    return finish_scoring.fn(planned.place, 0.0)


def die_at(call: int, before: bool) -> None:
    """SIGKILL this process at its n-th write request, before it is sent or after it was answered."""
    calls = itertools.count(1)  # shared by several threads
    request = BaseClient.__dict__["_make_api_call"]

    def deadly(self: BaseClient, operation: str, given: Any) -> Any:
        mine = next(calls) if operation in _WRITES else 0
        if mine == call and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = request(self, operation, given)
        if mine == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(BaseClient, "_make_api_call", deadly)  # noqa: B010 - every request passes here
