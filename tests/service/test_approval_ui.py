"""A person approves or rejects a model in the browser: what they are shown, what they fill in, what comes of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models import tiny_bert
from tests.reviews import jsonl, reviews
from tests.service.browser import CHROMIUM, Ui, chromium, pictures_folder
from tests.service.stack import Service

pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.prefect,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)"),
]
LABELLED = "s3://nightshift/approval/labelled/"


@pytest.fixture(scope="module")
def ui(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """The UI of the service in a browser."""
    with chromium() as page:
        ui = Ui(page, service.stack.prefect_url, pictures_folder(tmp_path_factory.mktemp("ui")))
        ui.login(service.login)
        yield ui


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model that is trained in seconds."""
    return tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize("decision", ["Approve", "Reject"])
def test_a_person_decides(ui: Ui, service: Service, base: Path, decision: str) -> None:
    service.store().write_bytes(jsonl(reviews(200)), f"{LABELLED}train.jsonl")
    service.store().write_bytes(jsonl(reviews(120, seed=50)), f"{LABELLED}test.jsonl")
    name = f"asked-{decision.lower()}"
    given: dict[str, Any] = {
        "data": {"source": {"location": LABELLED}},
        "tokenization": {"max_length_tokens": 48},
        "training": {"base_model": str(base), "epochs": 4, "learning_rate": 0.005, "device": "cpu"},
        "gate": {"must_beat_baseline": False},
        "approval": {"required": True, "timeout_hours": 1},
        "registration": {"model_name": name},
    }
    run = service.press_run("retrain/retrain", given)
    assert service.until(run, "PAUSED", "FAILED") == "PAUSED", service.log(run)[-5:]
    assert service.registry().resolve(name, "champion") is None

    form = ui.resume_form(run)
    ui.see(f"{name} version 1: passed the gate", "not worse than the champion")
    ui.picture(f"approval-form-{decision.lower()}")
    assert form.choose(decision, "Decision") == ["Approve", "Reject"]
    form.fill("Ann Example", "Name")
    form.fill("I have read the report.", "Comment")
    ui.picture(f"approval-filled-{decision.lower()}")
    said = form.submit("Resume")
    ui.picture(f"approval-sent-{decision.lower()}")
    assert "Flow run resumed" in said
    assert service.until(run) == "COMPLETED", service.log(run)[-5:]

    words = {"Approve": "Approved", "Reject": "Rejected"}[decision]
    assert any(
        f"{words} by Ann Example: I have read the report." in line for line in service.log(run)
    )
    ui.open(f"runs/flow-run/{run}", "Completed")
    ui.picture(f"approval-done-{decision.lower()}")
    champion = service.registry().resolve(name, "champion")
    history = service.press_run("history/history", {"model_name": name})
    assert service.until(history) == "COMPLETED"
    ui.open(f"runs/flow-run/{history}", "Completed")
    ui.tab("Artifacts")
    if decision == "Approve":
        assert champion and champion.version == "1"
        ui.see("Moves of the champion of asked-approve: 1")
    else:
        assert champion is None
        ui.see("Moves of the champion of asked-reject: 0")
    ui.picture(f"approval-history-{decision.lower()}")
