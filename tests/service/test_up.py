"""`make up`, `make status`, `make down`, on a machine of one's own: what a person gets, and what is left afterwards."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.connectors.servers.local_stack import passwords_of
from tests.models import tiny_bert
from tests.paths import ROOT
from tests.reviews import jsonl, reviews
from tests.service.stack import OVER, Service, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.prefect]

LABELLED = "s3://nightshift/labelled"
PREDICTIONS = "s3://nightshift/predictions/model=up/version=1/x.jsonl"


def params(base: Path, **training: Any) -> dict[str, Any]:
    return {
        "data": {"source": {"location": LABELLED}},
        "tokenization": {"max_length_tokens": 48},
        "training": {"base_model": str(base), "epochs": 3, "learning_rate": 5e-3} | training,
        "evaluation": {"resamples": 100},
        "gate": {"must_beat_baseline": False},
        "registration": {"model_name": "up"},
    }


def test_a_night_from_reviews_to_predictions(service: Service, tmp_path: Path) -> None:
    base = tiny_bert(tmp_path / "base")
    for name, rows, seed in (("train", 200, 0), ("test", 120, 1)):
        (tmp_path / f"{name}.jsonl").write_bytes(jsonl(reviews(rows, seed)))
    files = [str(tmp_path / f"{name}.jsonl") for name in ("train", "test")]
    assert f"{LABELLED}/train.jsonl" in service.command("put", *files, LABELLED)

    run = service.press_run("retrain/retrain", params(base))
    assert service.until(run) == "COMPLETED", service.log(run)[-5:]
    (child,) = service.children(run)
    assert child["work_pool_name"] == "gpu" and child["state_type"] == "COMPLETED"
    lines = service.log(run)
    assert any(child["id"] in line for line in lines), "the child is one click away"
    assert any(line.startswith("Trained ") for line in lines), "and its result is here"
    assert any("Training is under way" in line for line in service.log(child["id"]))
    champion = service.registry().resolve("up", "champion")
    assert champion

    service.store().write_bytes(
        b'{"id": 1, "text": "The plot was dull."}\n', "s3://nightshift/incoming/x.jsonl"
    )
    night = service.press_run("score/score", {"model_name": "up"})
    assert service.until(night) == "COMPLETED", service.log(night)[-5:]
    assert b"NEGATIVE" in (service.store().read_bytes(PREDICTIONS) or b"")
    back = service.press_run(
        "promote/promote", {"model_name": "up", "version": "1", "who": "a test", "reason": "a test"}
    )
    assert service.until(back) == "COMPLETED"
    _a_night_shared_by_the_pool(service)


def _a_night_shared_by_the_pool(service: Service) -> None:
    """Shards are scored by runs of their own, and each object once."""
    store = service.store()
    with ThreadPoolExecutor(16) as pool:
        for number in range(1_100):  # more than a shard holds
            line = b'{"id": %d, "text": "The plot was grand."}\n' % number
            pool.submit(store.write_bytes, line, f"s3://nightshift/shared/{number:04}.jsonl")
    given = {"model_name": "up", "input": "s3://nightshift/shared/", "workers": 2}
    run = service.press_run("score/score", given)
    assert service.until(run) == "COMPLETED", service.log(run)[-5:]
    shares = service.children(run)
    assert len(shares) == 2 and {s["work_pool_name"] for s in shares} == {"cpu"}
    assert {s["state_type"] for s in shares} == {"COMPLETED"}
    outputs = [o.key.rpartition("/")[2] for o in store.scan(PREDICTIONS.rpartition("/")[0])]
    assert sum(name.endswith(".jsonl") and name[:4].isdigit() for name in outputs) == 1_100


def test_the_command_line_uses_the_running_service(service: Service) -> None:
    command = [sys.executable, "-m", "flows", "score", "--model-name", "up", "--scope", "rescore"]
    done = subprocess.run(
        command, cwd=ROOT, env=service._environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Scored 1 of 1 reviews" in done.stdout
    assert "is already running" in service.up()


def test_a_program_that_dies_is_started_again(service: Service) -> None:
    before = service.program("mlflow").pid
    psutil.Process(before).kill()
    wait_for(
        lambda: (
            service.program("mlflow").pid not in (0, before)
            and service.program("mlflow").state == "RUNNING"
        ),
        60,
        "MLflow to come back",
    )


def test_a_taken_port_is_said(tmp_path: Path, service: Service) -> None:
    port = service.stack.prefect_url.rpartition(":")[2]
    other = Service(tmp_path / "other", NIGHTSHIFT_PREFECT_PORT=port)
    with pytest.raises(RuntimeError, match=rf"Port {port} is taken.*NIGHTSHIFT_PREFECT_PORT"):
        other.up()
    assert other.left_processes() == []


def test_secrets_stay_where_they_belong(service: Service) -> None:
    given = service.stack.environment(service.home)
    secrets = {given["AWS_SECRET_ACCESS_KEY"], given["MLFLOW_TRACKING_PASSWORD"]}
    secrets |= {given["PREFECT_API_AUTH_STRING"].partition(":")[2]}
    assert len(secrets) == 3 and all(len(secret) >= 40 for secret in secrets)

    def holds(text: str) -> bool:
        return any(secret in text for secret in secrets)

    told = [" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])]
    assert not [line for line in told if holds(line)]
    assert not holds(service.command("status"))
    files = [p for p in service.home.rglob("*") if p.is_file()]
    holding = [p for p in files if holds(p.read_text(errors="replace"))]
    places = {"passwords.json", "s3/credentials.json"}
    names = {str(p.relative_to(service.home)) for p in holding}
    assert {name for name in names if not name.startswith("stack/programs/")} == places
    assert {p.stat().st_mode & 0o777 for p in holding} == {0o600}
    assert service.home.stat().st_mode & 0o777 == 0o700
    # The store opens up some files of its own (.vif), and pages are copied as they are; nobody else gets to either.
    shown = [p for p in service.home.rglob("*") if p.stat().st_mode & 0o077]
    assert not [p for p in shown if p.suffix != ".vif" and "ui" not in p.parts]


def test_nobody_gets_in_without_a_password(service: Service) -> None:
    mlflow, prefect = service.stack.mlflow_url, service.stack.prefect_url
    everything = {
        f"{mlflow}/": 401,
        f"{mlflow}/api/2.0/mlflow/experiments/get?experiment_id=0": 401,
        f"{mlflow}/ajax-api/2.0/mlflow/experiments/get?experiment_id=0": 401,
        f"{mlflow}/health": 200,
        f"{prefect}/api/admin/settings": 401,
        f"{prefect}/api/health": 200,
    }
    assert {url: answered(url) for url in everything} == everything


def answered(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_the_page_is_opened_and_the_password_is_not_in_its_address(
    service: Service, tmp_path: Path
) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\necho $@ > {tmp_path / 'opened'}\n")
    browser.chmod(0o700)
    done = subprocess.run(
        [sys.executable, "-m", "flows", "open"],
        cwd=ROOT,
        env=service._environment | {"BROWSER": f"{browser} %s"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (tmp_path / "opened").read_text().strip() == service.stack.prefect_url
    assert f"Opened {service.stack.prefect_url}" in done.stdout
    assert str(passwords_of(service.home)) in done.stdout


def test_a_run_that_is_stopped_with_the_services_is_no_death_of_its_objects(
    service: Service,
) -> None:
    """A record that stays is a death, and an object with two of them fails by name."""
    lines = b"".join(
        b'{"id": %d, "text": "Scene %d was grand."}\n' % (n, n) for n in range(200_000)
    )
    service.store().write_bytes(lines, "s3://nightshift/long/long.jsonl")
    run = service.press_run("score/score", {"model_name": "up", "input": "s3://nightshift/long/"})

    def records() -> list[str]:
        found = [o.key for o in service.store().scan("s3://nightshift/registry/up/in-work/")]
        return [key for key in found if "~" in key and not key.endswith("~plan.json")]

    wait_for(lambda: bool(records()) or service.state(run) in OVER, 240, "the object to be in work")
    assert records(), service.log(run)[-5:]
    service.down()
    service.up()
    assert records() == []
    assert service.run(run)["state_type"] == "CRASHED"


def test_data_survive_and_a_killed_supervisor_leaves_nothing(service: Service) -> None:
    (owner,) = {service.stack.owner.split(":")[1]}
    os.kill(int(owner), 9)
    wait_for(lambda: not psutil.pid_exists(int(owner)), 10, "the supervisor to be gone")
    assert service.left_processes(), "its programs live on"
    assert "Killed processes left by an earlier start" in service.up()
    assert service.registry().resolve("up", "champion")
    assert service.store().read_bytes(PREDICTIONS)
    assert service.api("deployments/name/retrain/retrain")["name"] == "retrain"
