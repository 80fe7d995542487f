"""Retrainings of tiny models in seconds, for tests on real servers: the form, labelled reviews, files of reviews."""

import io
from pathlib import Path
from typing import Any

from flows.forms.pipelines import RetrainParams
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.formats import reading, writing
from tasks.runtime.clients import model_registry
from tests.reviews import jsonl, reviews

# For tests that are about something else: a few test reviews of whatever model make a champion.
ANY_FIRST_CHAMPION: dict[str, Any] = {
    "min_test_rows": 0,
    "min_test_rows_a_class": 0,
    "must_beat_largest_class": False,
    "must_recall_every_class": False,
}

FAST: dict[str, Any] = {
    "tokenization": {"max_length_tokens": 48},
    "training": {"epochs": 4, "learning_rate": 5e-3, "device": "cpu"},
    "evaluation": {"resamples": 100},
    "behaviour": {"max_cases": 10},
    "report": {"worst_errors": 2, "attribution_steps": 4},
    "gate": {
        "must_beat_baseline": False,  # random weights against TF-IDF on easy reviews
        "first_champion": ANY_FIRST_CHAMPION,
    },
    "engines": {"measure": False},
}


# Of models as good as each other, so that chance does not decide what a test is about.
LENIENT: dict[str, Any] = {
    "gate__champion": {"margin": 0.2, "widest_margin": 0.3},
    "gate__slices": {"margin": 1.0},
    "gate__behaviour": {"margin": 1.0, "max_single_rise": 1.0},
    "gate__limits": {"maximum_calibration_error": 1.0},
    "gate__plausibility": {"max_gain_over_validation": 1.0, "max_overlap_fraction": 1.0},
}


def params(base: Path, location: str, name: str, **changed: Any) -> RetrainParams:
    given: dict[str, Any] = {k: dict(v) for k, v in FAST.items()}
    given["training"]["base_model"] = str(base)
    given["data"] = {"source": {"location": location}}
    given["registration"] = {"model_name": name}
    for path, value in changed.items():
        room, *keys = path.split("__")
        place = given.setdefault(room, {})
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value
    return RetrainParams.model_validate(given)


def deliver(store: ObjectStore, prefix: str, seed: int = 0) -> str:
    store.write_bytes(jsonl(reviews(200, seed)), f"{prefix}/labelled/train.jsonl")
    store.write_bytes(jsonl(reviews(60, seed + 50)), f"{prefix}/labelled/test.jsonl")
    return f"{prefix}/labelled"


def write(store: ObjectStore, uri: str, rows: list[dict[str, str]]) -> None:
    buffer = io.BytesIO()
    writing.encode(uri, rows, ["id", "text"], buffer)
    store.write_bytes(buffer.getvalue(), uri)


def read(store: ObjectStore, uri: str) -> list[dict[str, Any]]:
    rows = reading.decode(uri, io.BytesIO(store.read_bytes(uri) or b""))
    return [dict(r.values or {}) for r in rows]


def tags(name: str, version: str) -> dict[str, str]:
    found = model_registry().resolve(name, version)
    assert found
    return model_registry().tags_of(found)
