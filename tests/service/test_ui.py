"""What an analyst does in the browser: fill in a form, press a button, follow the run, read what came of it."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from PIL import Image

from deployments.apply import definitions
from flows.forms.pipelines import RetrainParams, TuneParams, WatchParams
from flows.forms.registry import HistoryParams, PromoteParams, RetentionParams, RollbackParams
from flows.forms.scoring import ScoreParams, TraceParams
from tasks.core.markdown import Markdown
from tests.core.test_markdown import EVIL
from tests.models import tiny_bert
from tests.reviews import jsonl, reviews
from tests.service.browser import CHROMIUM, Field, Ui, chromium, described, pictures_folder
from tests.service.stack import Service, wait_for

pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.prefect,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)"),
]
FLOWS = [entry["name"] for entry in definitions()]
LABELLED = "s3://nightshift/ui/labelled/"
INBOX = "s3://nightshift/ui/inbox/"
# The browser part of Prefect's UI asks this host for a configuration before it has read that analytics are off.
KNOWN_CALLERS = {"sr-client-cfg.amplitude.com"}


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


def test_deployments_are_listed_with_schedules_and_tags(ui: Ui) -> None:
    ui.open("", "Dashboard")
    ui.open("deployments?limit=25", f"{len(FLOWS)} Deployments", "Items per page")
    ui.picture("deployments")
    text = ui.text()
    for name in FLOWS:
        # Name of the deployment, of its flow, its status, then its tags; where two are too wide, "+1".
        assert re.search(rf"{name} {name} (Not )?Ready nightshift ({name}|\+1) ", text), name
    assert "Active At 01:00 AM" in text
    ui.page.get_by_role("link", name="retrain", exact=True).first.click()
    ui.see("At 03:00 AM, only on Sunday", "Nightshift: retrain when labelled reviews have landed")
    ui.picture("deployment")
    ui.tab("Description")
    ui.see("Train a classifier on labelled reviews")
    ui.picture("description")


def test_the_pages_ask_for_the_password(ui: Ui, service: Service) -> None:
    """By both names that this machine has; a wrong one is refused, and the right one is typed as it stands."""
    port = service.stack.prefect_url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost"):
        browser = ui.page.context.browser
        assert browser
        stranger = browser.new_context()  # who has typed no password yet
        stranger.route(re.compile(r"https?://(?!127\.0\.0\.1|localhost)"), lambda r: r.abort())
        page = stranger.new_page()
        page.goto(f"http://{host}:{port}/v2/deployments")
        asked = page.locator("input[type=password]")
        asked.fill("nightshift:wrong")
        asked.press("Enter")
        page.get_by_text("Invalid credentials").first.wait_for()
        asked.fill(service.login)
        asked.press("Enter")
        page.get_by_text(f"{len(FLOWS)} Deployments").first.wait_for()
        assert service.login.partition(":")[2] not in page.url
        stranger.close()


def test_work_pools_have_workers(ui: Ui) -> None:
    ui.open("work-pools", "2 work pools")
    ui.picture("work-pools")
    for pool in ("cpu", "gpu"):
        ui.open("work-pools", "2 work pools")
        ui.page.get_by_role("link", name=pool, exact=True).first.click()
        ui.tab("Workers")
        ui.see(f"-{pool}-", "Online")
        ui.picture(f"workers-{pool}")


def test_automations_say_what_they_are_for(ui: Ui, service: Service) -> None:
    ui.open("automations", "3 automations")
    ui.picture("automations")
    text = ui.text().replace("`", "")
    for automation in service.api("automations/filter", {}):
        assert automation["name"] in text
        assert automation["description"] and automation["description"].replace("`", "") in text


FORMS = {
    "retrain": RetrainParams,
    "score": ScoreParams,
    "tune": TuneParams,
    "promote": PromoteParams,
    "rollback": RollbackParams,
    "retention": RetentionParams,
    "history": HistoryParams,
    "trace": TraceParams,
    "watch": WatchParams,
}


@pytest.mark.parametrize("deployment", FORMS)
def test_a_form_shows_what_the_code_describes(ui: Ui, deployment: str) -> None:
    """Groups and fields in the order of the code, each with its description; nothing is left to raw JSON."""
    group, *fields = ui.run_form(deployment).read()
    ui.picture(f"form-{deployment}")
    model = FORMS[deployment]
    assert group == Field("params", (model.__doc__ or "").strip(), "group", "")
    wanted = list(described(model.model_json_schema()))
    assert [f._replace(value="") for f in fields] == wanted
    assert all(f.description for f in fields)


def test_a_form_begins_with_the_defaults_of_the_code(ui: Ui) -> None:
    values = {f.label: f.value for f in ui.run_form("score").read() if f.kind != "group"}
    given = ScoreParams().model_dump()
    given |= given.pop("engine")
    assert values == {name.replace("_", " ").title(): _as_shown(v) for name, v in given.items()}


def _as_shown(value: object) -> str:
    """A default as a form shows it: a switch by its state, an empty list by nothing."""
    return "" if value == [] else str(value).lower() if isinstance(value, bool) else str(value)


def test_an_analyst_retrains_from_the_form(ui: Ui, service: Service, base: Path) -> None:
    service.store().write_bytes(jsonl(reviews(200)), f"{LABELLED}train.jsonl")
    service.store().write_bytes(jsonl(reviews(120, seed=50)), f"{LABELLED}test.jsonl")
    form = ui.run_form("retrain")
    form.fill(LABELLED, "Data", "Source", "Location")
    form.fill(48, "Tokenization", "Max Length Tokens")
    form.fill(base, "Training", "Base Model")
    form.fill(4, "Training", "Epochs")
    form.fill(0.005, "Training", "Learning Rate")
    assert form.choose("cpu", "Training", "Device") == ["auto", "cpu", "cuda"]
    form.switch("Gate", "Must Beat Baseline")
    form.fill("ui", "Registration", "Model Name")
    ui.picture("form-retrain-filled")
    assert "scheduled to start now" in form.submit()

    ui.page.get_by_text("View run").click()
    ui.see("Running", seconds=120)
    ui.picture("run-under-way")
    run = urlparse(ui.page.url).path.rsplit("/", 1)[1]
    assert service.until(run) == "COMPLETED", service.log(run)[-5:]
    params = service.run(run)["parameters"]["params"]
    assert (
        params["data"]["source"]["location"] == LABELLED
        and params["gate"]["must_beat_baseline"] is False
    )
    assert (
        params["training"] | {"epochs": 4, "learning_rate": 0.005, "device": "cpu"}
        == params["training"]
    )
    champion = service.registry().resolve("ui", "champion")
    assert champion and champion.version == "1"
    assert "Reviews by class in train: NEGATIVE 90, POSITIVE 90" in service.log(run)
    look_at_the_run(ui, run)
    look_at_the_artifacts(ui, service, run)


def look_at_the_run(ui: Ui, run: str) -> None:
    """Its log in our own words, and the training on the other pool as its child."""
    ui.open(f"runs/flow-run/{run}", "Preflight: object store and model registry answer")
    ui.picture("run")
    text = ui.text()
    assert "Files of train: train.jsonl (its name says so)" in text and "Traceback" not in text
    ui.tab("Subflow Runs")
    ui.see("1 Subflow run", "Work Pool")
    ui.picture("run-child")
    ui.page.get_by_role("link", name="fine-tune").first.wait_for()
    ui.tab("Parameters")
    ui.see(LABELLED)


def look_at_the_artifacts(ui: Ui, service: Service, run: str) -> None:
    """The validation table, the evaluation as text, the pictures as pictures."""
    ui.tab("Artifacts")
    ui.see("Reviews left after validation", "Evaluation of ui version 1, and the gate's verdict")
    ui.picture("run-artifacts")
    question = {"artifacts": {"flow_run_id": {"any_": [run]}}}
    artifacts: dict[str, Any] = {a["key"]: a for a in service.api("artifacts/filter", question)}
    assert {
        "validation",
        "evaluation",
        "report",
        "confusion",
        "roc",
        "reliability",
        "scores",
    } <= set(artifacts)
    ui.open(f"artifacts/artifact/{artifacts['evaluation']['id']}", "ui version 1: passed the gate")
    assert ui.page.get_by_role("cell", name="Accuracy").is_visible()
    ui.picture("artifact-evaluation")
    ui.open(f"artifacts/artifact/{artifacts['validation']['id']}", "severity")
    ui.picture("artifact-validation")
    ui.open(f"artifacts/artifact/{artifacts['confusion']['id']}", "test reviews")
    shown = ui.page.locator("img[src^='data:image/png']").first
    shown.wait_for()
    picture = Image.open(io.BytesIO(shown.screenshot()))
    assert len(picture.convert("L").getcolors() or []) > 10 and picture.width > 300
    ui.picture("artifact-confusion")


def test_an_analyst_scores_from_the_form(ui: Ui, service: Service) -> None:
    """After the retraining above: a bar that moves, a summary to read, links to what was written."""
    for number in range(4):
        service.store().write_bytes(jsonl(reviews(40, seed=number)), f"{INBOX}{number}.jsonl")
    service.store().write_bytes(
        b'{"id": "x", "text": " "}\n' * 2 + jsonl(reviews(98)), f"{INBOX}odd.jsonl"
    )
    form = ui.run_form("score")
    form.fill(INBOX, "Input")
    form.fill("ui", "Model Name")
    assert "scheduled to start now" in form.submit()
    ui.page.get_by_text("View run").click()
    run = urlparse(ui.page.url).path.rsplit("/", 1)[1]
    assert service.until(run) == "COMPLETED", service.log(run)[-5:]
    ui.open(f"runs/flow-run/{run}", "260 rows")
    ui.picture("run-score")
    ui.tab("Artifacts")
    ui.see("reviews done", "258 of 260 reviews in 5 objects scored by ui version 1")
    ui.picture("run-score-artifacts")
    question = {"artifacts": {"flow_run_id": {"any_": [run]}}}
    artifacts: dict[str, Any] = {a["key"]: a for a in service.api("artifacts/filter", question)}
    assert artifacts["scoring-progress"]["data"] == 100.0
    ui.open(f"artifacts/artifact/{artifacts['summary']['id']}", "rejected: empty text")
    ui.see("Predictions", "Rejected rows", "POSITIVE")
    ui.picture("artifact-score-summary")


def test_no_text_of_others_becomes_a_link_or_a_picture(ui: Ui, service: Service) -> None:
    """Prefect's page makes links of addresses by itself, also in texts whose signs are escaped."""
    shown = "".join(Markdown("- text {}: {}\n\n").format(n, evil) for n, evil in enumerate(EVIL))
    described = str(Markdown("{}").format("; ".join(EVIL)))
    body = {"key": "foreign", "type": "markdown", "data": shown, "description": described}
    artifact = service.api("artifacts/", body)["id"]
    ui.open(f"artifacts/artifact/{artifact}", f"text {len(EVIL) - 1}", "xwww.evil.test")
    ui.picture("artifact-of-others")
    assert ui.page.locator("a[href*='evil' i], img[src*='evil' i]").count() == 0
    raw = service.api("artifacts/", body | {"data": "text http\\://evil.test/x"})["id"]
    ui.open(f"artifacts/artifact/{raw}", "evil.test/x")
    assert ui.page.locator("a[href*='evil' i]").count() == 1, "an escape does not keep it from that"


def test_the_form_refuses_a_number_out_of_bounds(ui: Ui) -> None:
    form = ui.run_form("retrain")
    assert form.complaint("Training", "Epochs") == ""
    form.fill(0, "Training", "Epochs")
    form.submit()
    assert form.complaint("Training", "Epochs") == "Value must be greater than or equal to 1."
    ui.picture("form-refused-number")


def test_the_form_refuses_a_wrong_text_and_names_the_field(ui: Ui) -> None:
    form = ui.run_form("retrain")
    form.fill("my model", "Registration", "Model Name")
    said = form.submit()
    ui.picture("form-refused-text")
    words = "a name of letters, digits, dots, hyphens and underscores"
    assert "'params.registration.model_name'" in said and words in said
    assert words in form.field("Registration", "Model Name").inner_text()


def test_without_validation_the_run_fails_and_says_why(ui: Ui, service: Service) -> None:
    form = ui.run_form("retrain")
    form.fill("my model", "Registration", "Model Name")
    form.without_validation()
    assert "scheduled to start now" in form.submit()
    ui.page.get_by_text("View run").click()
    run = urlparse(ui.page.url).path.rsplit("/", 1)[1]
    refused(
        service,
        run,
        r"params\.registration\.model_name: 'my model' is not a name of letters, digits",
    )
    ui.open(f"runs/flow-run/{run}", "Failed", "'my model' is not a name of letters")
    ui.picture("run-refused")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"training": {"epochs": 0}},
            r"params\.training\.epochs: .*greater than or equal to 1, not 0",
        ),
        (
            {"training": {"device": "gpu"}},
            r"params\.training\.device: .*'auto', 'cpu' or 'cuda', not 'gpu'",
        ),
        (
            {"trainin": {"epochs": 1}},
            r"params\.trainin: there is no such field, did you mean .*training",
        ),
    ],
    ids=["number", "choice", "name"],
)
def test_a_wrong_value_from_elsewhere_fails_and_says_why(
    service: Service, wrong: dict[str, Any], message: str
) -> None:
    """Schedules, automations and programs start runs too, and the server looks at no value if they say so."""
    run = service.press_run("retrain/retrain", wrong, enforce_parameter_schema=False)
    refused(service, run, message)


def refused(service: Service, run: str, message: str) -> None:
    """Failed, not Crashed, with field and limit, in the state and in the log that people look at first."""
    assert service.until(run) == "FAILED"
    said = service.run(run)["state"]["message"]
    assert re.search(message, said) and "status code" not in said
    assert not any("Traceback" in line for line in service.log(run)), (
        "a sentence, not a stack trace"
    )
    wait_for(lambda: re.search(message, "\n".join(service.log(run))), 30, "the reason in the log")


def test_promote_requires_a_reason(ui: Ui, service: Service) -> None:
    form = ui.run_form("promote")
    before = runs_of(service, "promote")
    said = form.submit()
    ui.picture("form-promote-refused")
    assert "reason" in said and runs_of(service, "promote") == before
    assert "required" in form.field("Reason").inner_text()


def runs_of(service: Service, flow: str) -> int:
    return service.api("flow_runs/count", {"flows": {"name": {"any_": [flow]}}})


def test_the_ui_asks_no_other_host(ui: Ui) -> None:
    """Last in this file, so that it speaks of all pages."""
    assert {urlparse(url).hostname for url in ui.elsewhere} <= KNOWN_CALLERS
