"""What the owner lays out before the attack, and what is left of it afterwards."""

import base64
import contextlib
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import NightshiftError
from tasks.core.records import Record
from tests.attack.answers import HAD, Verdict

BUCKET, SPARE_BUCKET = "nightshift", "attack-spare"
KEY = "labelled/attack.jsonl"
MODEL_EXPERIMENT = "nightshift"
MARKERS = ("user", "page")


class Owner:
    """A client of a subject that has its passwords.

    Args:
        environment: of a client: addresses, keys and passwords.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._given = environment
        self.prefect_url = environment["PREFECT_API_URL"].removesuffix("/api")
        uri = environment.get("MLFLOW_TRACKING_URI", "")
        self.mlflow_url = uri if uri.startswith("http") else ""
        self.s3_url = environment["AWS_ENDPOINT_URL_S3"]
        self.access_key = environment["AWS_ACCESS_KEY_ID"]
        self.store = ObjectStore(self.s3_url, self.access_key, environment["AWS_SECRET_ACCESS_KEY"])

    def prefect(self, path: str, question: Any = None, method: str | None = None) -> Any:
        """Ask Prefect's API. Raises HTTPError."""
        proof = self._given.get("PREFECT_API_AUTH_STRING", "")
        return _ask(f"{self.prefect_url}/api/{path}", question, proof, method)

    def mlflow(self, path: str, question: Any = None) -> Any:
        """Ask MLflow's API. Raises HTTPError."""
        return _ask(f"{self.mlflow_url}/api/2.0/mlflow/{path}", question, self.mlflow_login)

    @property
    def mlflow_login(self) -> str:
        """Name and password; '' without."""
        name = self._given.get("MLFLOW_TRACKING_USERNAME", "")
        return f"{name}:{self._given.get('MLFLOW_TRACKING_PASSWORD', '')}" if name else ""


def _ask(url: str, question: Any, proof: str, method: str | None = None) -> Any:
    headers = {"Content-Type": "application/json"}
    if proof:
        headers["Authorization"] = f"Basic {base64.b64encode(proof.encode()).decode()}"
    content = None if question is None else json.dumps(question).encode()
    asked = urllib.request.Request(url, content, headers, method=method)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


class LaidOut(Record):
    """What there is to be had: a review, a variable, an experiment; and where a command that runs leaves its mark."""

    canary: str
    deployment: str
    flows: list[str]
    pool: str
    experiment: str
    markers: dict[str, str]
    before: dict[str, str]


def lay_out(owner: Owner, public: Path) -> LaidOut:
    """Put a text into every server that no one but the owner should see.

    Args:
        owner: a client with passwords.
        public: a folder that anybody may write to.
    """
    canary = f"canary{secrets.token_hex(12)}"
    for bucket in (BUCKET, SPARE_BUCKET):
        owner.store.make_bucket(bucket)
    review = {"id": 1, "text": f"The plot was dull. {canary}", "label": "NEGATIVE"}
    for bucket in (BUCKET, SPARE_BUCKET):
        owner.store.write_bytes(json.dumps(review).encode(), f"s3://{bucket}/{KEY}")
    owner.prefect("variables/", {"name": "attack", "value": canary})
    deployments = owner.prefect("deployments/filter", {})
    deployment = next((d["id"] for d in deployments if d["name"] == "history"), "")
    laid = LaidOut(
        canary=canary,
        deployment=deployment,
        flows=[flow["id"] for flow in owner.prefect("flows/filter", {})],
        pool="cpu",
        experiment=_tagged_experiment(owner, canary) if owner.mlflow_url else "",
        markers={who: str(public / f"commanded-by-{who}") for who in MARKERS},
        before={},
    )
    return laid.model_copy(update={"before": _found(owner, laid)})


def _tagged_experiment(owner: Owner, canary: str) -> str:
    """The experiment that trainings go to, made where there is none yet."""
    try:
        found = owner.mlflow(f"experiments/get-by-name?experiment_name={MODEL_EXPERIMENT}")
        experiment = found["experiment"]["experiment_id"]
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        experiment = owner.mlflow("experiments/create", {"name": MODEL_EXPERIMENT})["experiment_id"]
    tag = {"experiment_id": experiment, "key": "attack", "value": canary}
    owner.mlflow("experiments/set-experiment-tag", tag)
    return str(experiment)


def _found(owner: Owner, laid: LaidOut) -> dict[str, str]:
    """What is there now, by what it is called in the table. What cannot be asked is told as it is."""
    found = {
        "the review in the object store": _said(owner.store.read_bytes, f"s3://{BUCKET}/{KEY}"),
        "the objects in the object store": _said(_listing, owner),
        "the variable in Prefect": _said(_variable, owner),
        "the runs in Prefect that nobody scheduled": _said(_runs, owner),
        "blocks of the user in Prefect": _said(_blocks, owner),
    }
    if laid.deployment:
        found["the work pool in Prefect"] = _said(_pool, owner, laid.pool)
        found["the deployment in Prefect"] = _said(_deployment, owner, laid.deployment)
    if laid.experiment:
        found["the experiment in MLflow"] = _said(_experiment, owner, laid.experiment)
    return found | {
        f"a command run as the owner, asked for by the {who}": _said(Path(marker).exists)
        for who, marker in laid.markers.items()
    }


def _said(ask: Any, *arguments: Any) -> str:
    try:
        return str(ask(*arguments))
    except (OSError, ValueError, KeyError, NightshiftError) as error:
        return f"{type(error).__name__}: {error}"


def _listing(owner: Owner) -> list[str]:
    return [f"{b}/{o.key}" for b in (BUCKET, SPARE_BUCKET) for o in owner.store.scan(f"s3://{b}/")]


def _variable(owner: Owner) -> list[str]:
    return sorted(f"{v['name']}={v['value']}" for v in owner.prefect("variables/filter", {}))


def _runs(owner: Owner) -> list[str]:
    found = owner.prefect("flow_runs/filter", {})
    return sorted(run["name"] for run in found if not run["auto_scheduled"])


def _blocks(owner: Owner) -> list[str]:
    return sorted(block["id"] for block in owner.prefect("block_documents/filter", {}))


def _pool(owner: Owner, pool: str) -> str:
    found = owner.prefect(f"work_pools/{pool}")
    return json.dumps([found["description"], found["base_job_template"]], sort_keys=True)


def _deployment(owner: Owner, deployment: str) -> str:
    found = owner.prefect(f"deployments/{deployment}")
    return json.dumps([found[k] for k in ("name", "entrypoint", "parameters", "job_variables")])


def _experiment(owner: Owner, experiment: str) -> str:
    found = owner.mlflow(f"experiments/get?experiment_id={experiment}")["experiment"]
    return json.dumps([found["name"], found["lifecycle_stage"], found.get("tags")])


def what_is_left(owner: Owner, laid: LaidOut) -> list[Verdict]:
    """Compare what is there with what was: a difference is what the attack has done."""
    verdicts: list[Verdict] = []
    for name, now in _found(owner, laid).items():
        kept = now == laid.before[name]
        verdicts.append(
            Verdict(
                target="what the owner finds",
                tried=name,
                answer="as before"
                if kept
                else f"now {_short(now)}; before {_short(laid.before[name])}",
                why="unharmed" if kept else HAD,
            )
        )
    return verdicts


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def clear_markers(laid: LaidOut) -> None:
    """Remove what commands have left."""
    for marker in laid.markers.values():
        with contextlib.suppress(FileNotFoundError):
            Path(marker).unlink()
