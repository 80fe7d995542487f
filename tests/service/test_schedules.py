"""Schedules and automations on a running service: what is due runs, what people changed stays, what failed is told."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.apply import DEPLOYMENTS
from tests.paths import ROOT
from tests.reviews import jsonl, reviews
from tests.service.stack import Service, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.prefect]

_BLOCK = """
from prefect.blocks.notifications import CustomWebhookNotificationBlock as Webhook
text = {"text": "{{subject}} | {{body}}"}
Webhook(name="on-call", url="URL", json_data=text).save("on-call", overwrite=True)
"""


class Register:
    """`python -m deployments.apply` against the service, with a file of our own."""

    def __init__(self, service: Service, file: Path) -> None:
        self.service, self.file = service, file
        self.content: dict[str, Any] = yaml.safe_load(DEPLOYMENTS.read_text())

    def __call__(self, **environment: str) -> str:
        self.file.write_text(yaml.safe_dump(self.content, sort_keys=False))
        return self.python(
            "-m", "deployments.apply", "--deployments", str(self.file), **environment
        )

    def python(self, *arguments: str, **environment: str) -> str:
        """Run Python in the environment of a client."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.service.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
        return done.stdout

    def entry(self, name: str) -> dict[str, Any]:
        """One deployment of the file, to be changed."""
        (found,) = (e for e in self.content["deployments"] if e["name"] == name)
        return found


@pytest.fixture
def register(service: Service, tmp_path: Path) -> Iterator[Register]:
    yield Register(service, tmp_path / "prefect.yaml")
    patch_schedule(service, "watch", "nightshift-every-ten-minutes", active=False)
    service.command("run", sys.executable, "-m", "deployments.apply")  # back to what is shipped


def deployment(service: Service, name: str) -> dict[str, Any]:
    return service.api(f"deployments/name/{name}/{name}")


def schedules(service: Service, name: str) -> dict[str, bool]:
    """Slug to active."""
    return {s["slug"]: s["active"] for s in deployment(service, name)["schedules"]}


def runs(service: Service, name: str, **state: Any) -> list[dict[str, Any]]:
    question: dict[str, Any] = {"deployments": {"name": {"any_": [name]}}, "limit": 200}
    if state:
        question["flow_runs"] = {"state": state}
    return service.api("flow_runs/filter", question) or []


def patch_schedule(service: Service, name: str, slug: str, active: bool) -> None:
    """What the switch beside a schedule in the UI does."""
    found = deployment(service, name)
    (schedule,) = (s for s in found["schedules"] if s["slug"] == slug)
    path = f"deployments/{found['id']}/schedules/{schedule['id']}"
    service.api(path, {"active": active}, method="PATCH")


def test_the_night_and_the_week_are_in_the_calendar(service: Service) -> None:
    """A known break of Prefect's dependencies creates no scheduled run, and says nothing."""
    for name in ("score", "retrain"):
        found = wait_for(
            lambda name=name: runs(service, name, type={"any_": ["SCHEDULED"]}), 120, name
        )
        assert all(run["auto_scheduled"] for run in found)
    hours = {r["expected_start_time"][11:16] for r in runs(service, "score") if r["auto_scheduled"]}
    assert hours == {"01:00"}
    (weekly,) = runs(service, "retrain", type={"any_": ["SCHEDULED"]})[:1]
    source = weekly["parameters"]["params"]["data"]["source"]
    assert source["location"] == "s3://nightshift/labelled/", "and not the sample"
    assert runs(service, "watch") == []  # off until somebody switches it on


def test_a_cron_deployment_runs_by_itself(service: Service, register: Register) -> None:
    every_minute = {"slug": "nightshift-often", "cron": "* * * * *", "timezone": "Etc/UTC"}
    register.entry("tidy")["schedules"] = [every_minute]
    assert register().splitlines() == ["updated the deployment tidy/tidy"]
    done = wait_for(
        lambda: [r for r in runs(service, "tidy", type={"any_": ["COMPLETED"]}) if _by_itself(r)],
        240,
        "a run that nobody started",
    )
    assert done[0]["created_by"]["type"] == "SCHEDULE"
    assert register() == "Nothing to do: everything is registered and up to date.\n"

    del register.entry("tidy")["schedules"]  # and a schedule that is taken out is really gone
    register()
    assert schedules(service, "tidy") == {}
    assert [r for r in runs(service, "tidy", type={"any_": ["SCHEDULED"]}) if _by_itself(r)] == []


def _by_itself(run: dict[str, Any]) -> bool:
    return bool(run["auto_scheduled"])


def test_what_people_switched_stays_when_a_definition_changes(
    service: Service, register: Register
) -> None:
    register()
    patch_schedule(service, "score", "nightshift-nightly", active=False)
    patch_schedule(service, "watch", "nightshift-every-ten-minutes", active=True)
    # As an earlier release called it, with a field that it had.
    former = {"params": {"training": {"kept_layers": 3}, "distillation": {"teacher": ""}}}
    own = {"schedule": {"interval": 86400}, "active": True, "slug": "my-own", "parameters": former}
    service.api(f"deployments/{deployment(service, 'retrain')['id']}/schedules", [own])
    for name in ("score", "watch", "retrain"):
        register.entry(name)["tags"].append("changed")
    register.entry("score")["schedules"][0]["cron"] = "0 2 * * *"
    said = register().splitlines()
    assert len(said) == 5
    assert said[0].startswith("left out distillation (no longer a field) in a schedule")
    assert said[1].startswith("renamed training.kept_layers to training.num_layers in a schedule")
    stored = {s["slug"]: s["parameters"] for s in deployment(service, "retrain")["schedules"]}
    assert stored["my-own"] == {"params": {"training": {"num_layers": 3}}}
    (nightly,) = deployment(service, "score")["schedules"]
    assert nightly["schedule"]["cron"] == "0 2 * * *" and nightly["active"] is False
    assert schedules(service, "watch") == {"nightshift-every-ten-minutes": True}
    assert schedules(service, "retrain") == {"nightshift-weekly": True, "my-own": True}
    assert "changed" in deployment(service, "retrain")["tags"]

    del register.entry("retrain")["schedules"]
    register()
    assert schedules(service, "retrain") == {"my-own": True}
    patch_schedule(service, "watch", "nightshift-every-ten-minutes", active=False)
    patch_schedule(service, "score", "nightshift-nightly", active=True)


class Sink(ThreadingHTTPServer):
    """Takes what a webhook is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taker)
        self.taken: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Taker(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Sink)
        self.server.taken.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.shutdown()
    made.server_close()


def test_somebody_is_told_that_a_run_failed(
    service: Service, register: Register, sink: Sink
) -> None:
    url = f"http://127.0.0.1:{sink.server_port}/on-call"
    register.python("-c", _BLOCK.replace("URL", url))
    said = register(NIGHTSHIFT_NOTIFICATION_BLOCK="custom-webhook/on-call")
    assert "tell somebody that a run failed" in said
    failing = service.press_run("score/score", {"model_name": "no-such-model"})
    assert service.until(failing) == "FAILED"
    wait_for(lambda: sink.taken, 90, "the notification")
    text = json.loads(sink.taken[0])["text"]
    assert "score Failed" in text and "no-such-model" in text, text
    assert failing in text, "with the address of its page"
    secret = service.environment["AWS_SECRET_ACCESS_KEY"]
    assert secret not in "".join(sink.taken)

    def told() -> set[str]:
        found = service.api("automations/filter", {})
        return {a["name"] for a in found if "tell somebody" in a["name"]}

    assert len(told()) == 2
    register()  # from a shell that knows nothing of the block, as after a reboot
    assert len(told()) == 2
    assert "deleted the automation" in register(NIGHTSHIFT_NOTIFICATION_BLOCK="none")
    assert told() == set()


def test_a_block_that_is_not_there_is_a_warning(register: Register) -> None:
    """The block is made in the UI of the server that is being set up."""
    said = register(NIGHTSHIFT_NOTIFICATION_BLOCK="slack-webhook/nobody")
    assert "WARNING" in said and "there is no block 'slack-webhook/nobody'" in said


def test_newly_labelled_reviews_start_a_retraining(service: Service) -> None:
    """Two looks, as the reviews may still be landing; then the event, and the automation's run with that location."""
    location = "s3://nightshift/just-labelled/"
    service.store().write_bytes(jsonl(reviews(20)), f"{location}train.jsonl")
    before = {run["id"] for run in runs(service, "retrain")}
    for _ in range(2):
        look = service.press_run("watch/watch", {"location": location})
        assert service.until(look) == "COMPLETED"

    def started() -> list[dict[str, Any]]:
        found = [r for r in runs(service, "retrain") if r["id"] not in before]
        return [r for r in found if not r["auto_scheduled"]]

    (run,) = wait_for(started, 90, "the run that the automation starts")
    assert run["created_by"]["type"] == "AUTOMATION"
    source = run["parameters"]["params"]["data"]["source"]
    assert source["location"] == location
    service.until(run["id"])
    assert any(location in line for line in service.log(run["id"]))

    again = service.press_run("watch/watch", {"location": location})
    assert service.until(again) == "COMPLETED"
    assert any("announced as" in line for line in service.log(look))
    assert not any("announced as" in line for line in service.log(again)), "once is enough"
