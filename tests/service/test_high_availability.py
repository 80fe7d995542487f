"""What `make up-ha` starts, for real: passwords are asked for, a nightly run outlives an API server, data are kept.

It needs PostgreSQL, Redis and nginx from Debian's packages, and some minutes.
"""

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.stack.high_availability.debian import require_installed
from deployments.stack.high_availability.programs import MODEL, client_environment
from deployments.stack.high_availability.servers import ANSWERED_BY
from flows.forms.pipelines import RetrainParams
from flows.forms.scoring import ScoreParams
from tasks.connectors.servers.passwords import Passwords, read_passwords
from tasks.connectors.storage.object_store import ObjectStore
from tasks.connectors.tracking.model_registry import ModelRegistry
from tasks.core.errors import ServiceError
from tasks.core.records import Record
from tasks.core.scoring.results import ScoreSummary
from tests.paths import ROOT
from tests.retraining import FAST
from tests.reviews import jsonl, reviews
from tests.service.stack import Service, wait_for


def _why_not() -> str:
    try:
        require_installed()
    except ServiceError as error:
        return str(error)
    return ""


pytestmark = [
    pytest.mark.slow,
    pytest.mark.prefect,
    pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "all is installed"),
]
_OBJECTS = 300  # in two shards, so that the flow has much to tell the API after the kill


class HighlyAvailable(Service):
    """The service with everything twice that can be, and its passwords."""

    def __init__(self, home: Path) -> None:
        super().__init__(home / "ha", NIGHTSHIFT_HOME=str(home))

    def command(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "deployments.stack.high_availability.service", *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{arguments}: {done.stdout}\n{done.stderr}")
        return done.stdout

    @property
    def credentials(self) -> dict[str, str]:
        """The accounts and addresses that a worker has."""
        passwords = read_passwords(self.home / "secrets.json", Passwords)
        return client_environment(self.home, self.stack, passwords)

    def ask(
        self, path: str, question: dict[str, Any] | None = None, proof: str | None = None
    ) -> tuple[int, str, Any]:
        """Status, which server answered, and the answer, of a request to Prefect's API or (path as URL) to MLflow."""
        url = path if path.startswith("http") else f"{self.stack.prefect_url}/api/{path}"
        proof = self.credentials["PREFECT_API_AUTH_STRING"] if proof is None else proof
        headers = {"Content-Type": "application/json"}
        if proof:
            headers["Authorization"] = f"Basic {base64.b64encode(proof.encode()).decode()}"
        content = None if question is None else json.dumps(question).encode()
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, content, headers), timeout=20
            ) as answer:
                said = answer.read() or b"null"
                return answer.status, answer.headers.get(ANSWERED_BY, ""), json.loads(said)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers.get(ANSWERED_BY, ""), error.read()

    def api(self, path: str, question: dict[str, Any] | None = None) -> Any:
        status, _, answer = self.ask(path, question)
        assert status < 300, (path, status, answer)
        return answer

    def descendants(self) -> list[psutil.Process]:
        """Everything that runs for it."""
        owner = psutil.Process(int(self.stack.owner.split(":")[1]))
        return [owner, *owner.children(recursive=True)]

    def secrets(self) -> list[str]:
        """What nobody may see."""
        generated = json.loads((self.home / "secrets.json").read_text())
        return [*generated.values(), self.credentials["AWS_SECRET_ACCESS_KEY"]]


class Night(Record):
    """What a retrain and the nightly run after it came to."""

    retrain: str
    score: str
    version: str
    command_lines: str


def _seconds(name: str, started: float) -> None:
    print(f"\n  {name}: {time.perf_counter() - started:.1f} s", file=sys.__stderr__)


@pytest.fixture(scope="module")
def service() -> Iterator[HighlyAvailable]:
    # Not one of pytest's folders, which only their owner may enter: PostgreSQL does not run as root.
    home = Path(tempfile.mkdtemp(prefix="nightshift-ha-"))
    home.chmod(0o755)
    made = HighlyAvailable(home)
    started = time.perf_counter()
    try:
        said = made.up()
        _seconds("first up", started)
        print(said, file=sys.__stderr__)
        yield made
    finally:
        made.down()
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def registry(service: HighlyAvailable) -> ModelRegistry:
    return service.registry()


@pytest.fixture(scope="module")
def night(
    service: HighlyAvailable,
    registry: ModelRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> Night:
    """Retrain, then score; in the middle of that one API server is killed."""
    from tests.models import tiny_bert

    store = service.store()
    store.write_bytes(jsonl(reviews(200)), "s3://nightshift/labelled/train.jsonl")
    store.write_bytes(jsonl(reviews(60, seed=50)), "s3://nightshift/labelled/test.jsonl")
    base = tiny_bert(tmp_path_factory.mktemp("bert"))
    training = FAST["training"] | {"base_model": str(base)}
    source = {"data": {"source": {"location": "s3://nightshift/labelled"}}}

    started = time.perf_counter()
    retrain = service.press_run("retrain/retrain", FAST | source | {"training": training})
    assert service.until(retrain, seconds=600) == "COMPLETED", "\n".join(service.log(retrain))
    _seconds("retrain", started)
    champion = registry.resolve(MODEL, "champion")
    assert champion is not None

    for number in range(_OBJECTS):
        rows = jsonl(reviews(40, seed=1000 + number))
        store.write_bytes(rows, f"s3://nightshift/incoming/{number:03}.jsonl")
    started = time.perf_counter()
    score = service.press_run("score/score", {})
    wait_for(lambda: _outputs(store) > 20, 300, "the first predictions")
    command_lines = _command_lines()
    killed = service.program("prefect-api-1").pid
    psutil.Process(killed).kill()
    at_kill = _outputs(store)
    answers = [service.ask("flows/count", {}) for _ in range(40)]
    assert {status for status, _, _ in answers} == {200}, "somebody noticed"
    # "dead, alive" where nginx had to ask twice
    assert len({servers.split(", ")[-1] for _, servers, _ in answers[-20:]}) == 1
    assert service.until(score, seconds=600) == "COMPLETED", "\n".join(service.log(score))
    assert at_kill < _OBJECTS
    print(f"\n  killed after {at_kill} of {_OBJECTS} objects", file=sys.__stderr__)
    _seconds("score", started)

    started = time.perf_counter()
    wait_for(lambda: len(_answering(service)) == 2, 180, "the killed server to be back")
    assert service.program("prefect-api-1").pid != killed
    _seconds("the killed server is back", started)
    return Night(
        retrain=retrain, score=score, version=champion.version, command_lines=command_lines
    )


def _outputs(store: ObjectStore, prefix: str = "s3://nightshift/predictions/") -> int:
    """Finished predictions; what a run keeps for itself begins with an underscore."""
    return sum(o.key.endswith(".jsonl") and "/_" not in o.key for o in store.scan(prefix))


def _command_lines() -> str:
    done = subprocess.run(
        ["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True
    ).stdout
    assert "prefect server start" in done
    return done


def _answering(service: HighlyAvailable) -> set[str]:
    return {service.ask("flows/count", {})[1] for _ in range(10)}


def test_nobody_gets_in_without_a_password(service: HighlyAvailable) -> None:
    mlflow = f"{service.stack.mlflow_url}/api/2.0/mlflow/experiments/get?experiment_id=0"
    assert service.ask("flows/filter", {})[0] == 200
    for path in ("flows/filter", mlflow):
        for proof in ("", "nightshift:wrong", "admin:password"):
            question = {} if path == "flows/filter" else None
            assert service.ask(path, question, proof)[0] == 401
    assert len(_answering(service)) == 2  # that is, both servers of the API


def test_the_model_that_is_made_beforehand_is_that_of_the_forms() -> None:
    assert {RetrainParams().registration.model_name, ScoreParams().model_name} == {MODEL}


def test_the_workers_may_do_in_mlflow_what_they_need_and_no_more(
    service: HighlyAvailable, registry: ModelRegistry
) -> None:
    given = service.credentials
    proof = f"{given['MLFLOW_TRACKING_USERNAME']}:{given['MLFLOW_TRACKING_PASSWORD']}"
    mlflow = f"{service.stack.mlflow_url}/api/2.0/mlflow"
    refused = {
        "users/create": {"username": "somebody", "password": "a-long-password"},
        "experiments/set-experiment-tag": {"experiment_id": "0", "key": "a", "value": "b"},
        "runs/create": {"experiment_id": "0"},
        "experiments/delete": {"experiment_id": registry._experiment_id},
    }
    for path, question in refused.items():
        assert service.ask(f"{mlflow}/{path}", question, proof)[0] == 403, path
    allowed = {"experiment_id": registry._experiment_id, "key": "a", "value": "b"}
    assert service.ask(f"{mlflow}/experiments/set-experiment-tag", allowed, proof)[0] == 200


def test_a_nightly_run_does_not_notice_that_an_api_server_dies(
    service: HighlyAvailable, night: Night
) -> None:
    store = service.store()
    root = f"s3://nightshift/predictions/model={MODEL}/version={night.version}"
    summary = ScoreSummary.model_validate_json(store.read_bytes(f"{root}/_SUCCESS") or b"")
    assert summary.counts.rows_in == summary.counts.rows_out == 40 * _OBJECTS
    assert (summary.failed, summary.version) == (0, night.version)
    assert _outputs(store) == _OBJECTS
    # Its training was a run of its own on the other pool.
    assert [run["state_type"] for run in service.children(night.retrain)] == ["COMPLETED"]
    assert service.log(night.score)
    weights = [i for i in store.list("s3://mlflow/") if i.key.endswith("model.safetensors")]
    assert weights, "MLflow keeps models in a bucket of its own"


def test_events_and_schedules_come_from_the_services_beside_the_api(
    service: HighlyAvailable, night: Night
) -> None:
    question = {"filter": {"resource": {"id": [f"prefect.flow-run.{night.score}"]}}, "limit": 50}
    wait_for(
        lambda: (
            "prefect.flow-run.Completed"
            in {event["event"] for event in service.api("events/filter", question)["events"]}
        ),
        60,
        "the event of the score run's end",
    )
    scheduled = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    runs = wait_for(
        lambda: service.api("flow_runs/filter", scheduled), 120, "scheduled runs of the night"
    )
    assert all(run["auto_scheduled"] for run in runs)


def test_no_secret_is_anywhere_but_in_files_of_their_owner(
    service: HighlyAvailable, night: Night
) -> None:
    secrets = service.secrets()
    assert len(set(secrets)) == len(secrets) > 8 and all(len(s) >= 40 for s in secrets)
    for text in (night.command_lines, _command_lines(), service.command("status")):
        assert not any(secret in text for secret in secrets)
    logs = "\n".join([*service.log(night.retrain), *service.log(night.score)])
    assert not any(secret in logs for secret in secrets)
    holding = [
        path
        for path in service.home.rglob("*")
        if path.is_file() and any(s.encode() in path.read_bytes() for s in secrets)
    ]
    names = {str(path.relative_to(service.home)) for path in holding}
    configurations = {"secrets.json", "redis/redis.conf", "s3/credentials.json"}
    assert {name for name in names if not name.startswith("stack/programs/")} == configurations
    assert {stat.S_IMODE(path.stat().st_mode) for path in holding} == {0o600}


@pytest.mark.skipif(os.geteuid() != 0, reason="started by root")
def test_what_needs_no_root_does_not_run_as_root(service: HighlyAvailable) -> None:
    users = {"postgres": "postgres", "redis": "redis", "prefect": "www-data"}
    for program, user in users.items():
        assert psutil.Process(service.program(program).pid).username() == user


def test_data_outlive_a_down_and_no_process_does(service: HighlyAvailable, night: Night) -> None:
    before, urls, secrets = service.descendants(), service.stack, service.secrets()
    assert len(before) > 12
    started = time.perf_counter()
    service.down()
    _seconds("down", started)
    assert [p.name() for p in before if p.is_running()] == []
    assert service.left_processes() == []
    assert str(service.home) not in _running_now()

    started = time.perf_counter()
    service.up()
    _seconds("second up", started)
    assert service.secrets() == secrets
    assert service.stack.model_dump(exclude={"owner"}) == urls.model_dump(exclude={"owner"})
    assert service.state(night.score) == "COMPLETED"
    champion = service.registry().resolve(MODEL, "champion")
    assert champion is not None and champion.version == night.version
    output = "s3://nightshift/predictions-of-the-next-night/"
    started = time.perf_counter()
    again = service.press_run("score/score", {"output": output})
    assert service.until(again, seconds=600) == "COMPLETED", "\n".join(service.log(again))
    _seconds("score after the restart, nobody killed", started)
    assert _outputs(service.store(), output) == _OBJECTS


def _running_now() -> str:
    found = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True)
    return found.stdout


def test_what_a_killed_supervisor_leaves_is_gone_and_up_brings_all_back(
    service: HighlyAvailable, night: Night
) -> None:
    """The last one: it leaves the service as `down` finds it."""
    before = service.descendants()
    before[0].kill()
    debians = [p for p in before[1:] if p.is_running() and p.name() in ("postgres", "nginx")]
    psutil.wait_procs(debians, 30)
    assert [p for p in debians if p.is_running()] == [], "they end with what started them"
    started = time.perf_counter()
    assert "Killed processes left by an earlier start" in service.up()
    _seconds("up after the supervisor was killed", started)
    assert [p.name() for p in before if p.is_running()] == []
    assert service.state(night.score) == "COMPLETED"
