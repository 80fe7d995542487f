"""demo: all of Nightshift on embedded services, from labelled reviews to scored ones."""

import io
import json
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.forms.pipelines import RegistrationParams, RetrainParams
from flows.forms.scoring import ScoreParams
from flows.retrain import retrain
from flows.score import score
from flows.stages.results import Demonstrated
from tasks.core.formats import reading, writing
from tasks.core.training.params import TrainingParams
from tasks.runtime.clients import object_store
from tasks.runtime.settings import read_settings

TEXTBOOK = "The movie was fantastic! I enjoyed every moment of it."
OPPOSITE = "The movie was a disappointment. I regretted every minute of it."
_SAMPLE = Path(__file__).parents[1] / "tasks" / "sample" / "test.jsonl"


@flow(name="demo", validate_parameters=False)
def demo(params: RetrainParams, score_params: ScoreParams) -> Demonstrated:
    """Retrain on the sample reviews, score an inbox of three files with the champion, and read two predictions back."""
    retrained = retrain(params)
    deliver_reviews(score_params.input)
    if not retrained.promoted:  # score anyway, with the version that did not become champion
        version = retrained.version.version
        score_params = score_params.model_copy(update={"model_version": version})
    scored = score(score_params)
    return Demonstrated(retrained=retrained, scored=scored, sentences=read_answers(scored.root))


@task(cache_policy=NO_CACHE)
def deliver_reviews(inbox: str) -> None:
    """Put unlabelled reviews into the input of the nightly run: JSONL, compressed CSV and Parquet, one review empty."""
    lines = _SAMPLE.read_text(encoding="utf-8").splitlines()
    reviews = [
        {"id": f"sample-{n}", "text": json.loads(line)["text"]} for n, line in enumerate(lines)
    ]
    third = len(reviews) // 3
    textbook = [
        {"id": "textbook", "text": TEXTBOOK},
        {"id": "opposite", "text": OPPOSITE},
        {"id": "empty", "text": " "},
    ]
    files = {
        "monday.jsonl": textbook + reviews[:third],
        "tuesday.csv.gz": reviews[third : 2 * third],
        "wednesday.parquet": reviews[2 * third :],
    }
    for name, rows in files.items():
        buffer = io.BytesIO()
        writing.encode(name, rows, ["id", "text"], buffer)
        object_store().write_bytes(buffer.getvalue(), f"{inbox.rstrip('/')}/{name}")


@task(cache_policy=NO_CACHE)
def read_answers(root: str) -> list[dict[str, Any]]:
    """Read the predictions of the two sentences from the output object."""
    content = object_store().read_bytes(f"{root}/monday.jsonl") or b""
    rows = reading.decode("monday.jsonl", io.BytesIO(content))
    answers = {str(row.values["id"]): dict(row.values) for row in rows if row.values}
    return [{"text": TEXTBOOK, **answers["textbook"]}, {"text": OPPOSITE, **answers["opposite"]}]


def demo_parameters() -> tuple[RetrainParams, ScoreParams]:
    """Return the parameters of the demo: a short training for a small set, and separate locations."""
    bucket = read_settings().bucket
    retraining = RetrainParams(
        training=TrainingParams(
            epochs=4, learning_rate=2e-4, frozen_layers=3, best_epoch_by="last"
        ),
        registration=RegistrationParams(model_name="demo"),
    )
    return (
        retraining,
        ScoreParams(
            input=f"s3://{bucket}/demo/inbox/",
            output=f"s3://{bucket}/demo/predictions/",
            model_name="demo",
        ),
    )
