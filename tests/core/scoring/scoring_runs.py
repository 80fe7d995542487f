"""A scoring run's description, for tests of what is made of it."""

from tasks.core.records import ModelVersion
from tasks.core.scoring.plan import Columns, ScoringRun


def scoring_run(**changed: object) -> ScoringRun:
    """A run of one object with the defaults; `changed` are other fields."""
    fields: dict[str, object] = {
        "run": "a",
        "input": "s3://b/in/",
        "output": "s3://b/out",
        "model": ModelVersion(name="m", version="3", model_digest="d", run_id="r"),
        "columns": Columns(),
        "output_format": "same",
        "precision": "auto",
        "max_rejected_share": 0.5,
        "allow_empty": False,
        "objects": 1,
        "bytes": 1,
        "shards": 1,
        "scored_before": 0,
        "rescore": False,
        "code": "",
        "flow_run": "",
    }
    return ScoringRun.model_validate(fields | changed)
