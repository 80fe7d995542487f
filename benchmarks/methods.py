"""Measure two methods of training on IMDb, one seed each: further pre-training, and fewer layers.

    python -m benchmarks.methods --imdb folder

Every model is trained by `retrain` on the same labelled reviews and evaluated on the same test reviews. About an hour
on two cores, half of it for the pre-training.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from tasks.runtime.local_services import local_services, set_client_defaults

#: By name of the model: what its retraining changes in the form.
METHODS: dict[str, dict[str, Any]] = {
    "methods-whole": {},
    "methods-three-layers": {"training": {"num_layers": 3}},
    "methods-pretrained": {"pretraining": {"epochs": 1}},
}


def retrain_with(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Retrain with one method, and return its figures."""
    from flows.forms.pipelines import RetrainParams
    from flows.retrain import retrain

    changes = METHODS[name]
    if "pretraining" in changes:
        unlabelled = str(arguments.imdb.resolve())
        further = {"location": unlabelled, "limit_rows": arguments.pretraining_rows}
        changes = {"pretraining": changes["pretraining"] | further}
    params: dict[str, Any] = {
        "data": {
            "source": {"location": str(arguments.imdb.resolve())},
            "split": {
                "limit_train_rows": arguments.train_rows,
                "limit_test_rows": arguments.test_rows,
            },
        },
        "gate": {"must_beat_baseline": False},
        "registration": {"model_name": name},
        **changes,
    }
    started = time.perf_counter()
    result = retrain(RetrainParams.model_validate(params))
    return {
        "model": name,
        "train_rows": result.train_rows,
        "accuracy": str(result.evaluation.metrics["accuracy"]),
        "log_loss": str(result.evaluation.metrics["log_loss"]),
        "training_seconds": result.training_seconds,
        "evaluation_seconds": result.evaluation.seconds,
        "seconds": round(time.perf_counter() - started),
    }


def main() -> int:
    """Run the methods one after the other, and print their figures as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imdb", type=Path, required=True, help="folder with its Parquet files")
    parser.add_argument("--train-rows", type=int, default=2000)
    parser.add_argument("--test-rows", type=int, default=10_000)
    parser.add_argument("--pretraining-rows", type=int, default=16_000)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    arguments = parser.parse_args()
    set_client_defaults()
    figures: list[dict[str, Any]] = []
    with local_services(prepare=lambda: __import__("flows.retrain")):
        for name in arguments.only:  # written after each, because the next may take long
            figures.append(retrain_with(name, arguments))
            if arguments.json:
                arguments.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")
    print("| " + " | ".join(figures[0]) + " |")
    print("|" + "---|" * len(figures[0]))
    for entry in figures:
        print("| " + " | ".join(str(value) for value in entry.values()) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
