"""Retrain from a base model, and score texts all together and one by one: `python -m ... retrain ...`.

It runs in the environment of a case, with the code that is to be tried, and uses commands that a person types.
"""

import json
import os
import subprocess
import sys
from typing import Any

import boto3

_TEXTS = [
    " ".join(
        ["a fine film", "no fun", "great scenes and a dull end"][n % 3] for _ in range(1 + n % 14)
    )
    for n in range(60)
]
_BUCKET = "nightshift"


def run(*arguments: str) -> None:
    """A flow's command; where it fails, so does this program."""
    ended = subprocess.run([sys.executable, "-m", "flows", *arguments])
    if ended.returncode:
        sys.exit(ended.returncode)


def scored(model: str, *options: str) -> list[dict[str, Any]]:
    """Predictions of the texts, in their order."""
    store: Any = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"])
    place = f"cases/neighbours/{model}/{len(options)}"
    rows = "".join(json.dumps({"text": text}) + "\n" for text in _TEXTS)
    store.put_object(Bucket=_BUCKET, Key=f"{place}/in/texts.jsonl", Body=rows.encode())
    source, target = (f"s3://{_BUCKET}/{place}/{part}" for part in ("in/", "out"))
    given = ["--input", source, "--output", target, "--model-name", model]
    run("score", *given, "--model-version", "challenger", "--engine.precision", "fp32", *options)
    keys = [
        o["Key"] for o in store.list_objects_v2(Bucket=_BUCKET, Prefix=f"{place}/out/")["Contents"]
    ]
    (key,) = (key for key in keys if key.endswith("/texts.jsonl") and "/_" not in key)
    body = store.get_object(Bucket=_BUCKET, Key=key)["Body"].read().decode()
    return [json.loads(line) for line in body.splitlines()]


def main() -> None:
    """Print by how much the answers differ."""
    retraining = sys.argv[1:]
    (named,) = (a for a in retraining if a.startswith("--registration.model-name="))
    model = named.partition("=")[2]
    run(*retraining, "--no-engines.measure")
    together, alone = scored(model), scored(model, "--engine.window-reviews", "1")
    labels = sum(a["label"] != b["label"] for a, b in zip(together, alone, strict=True))
    names = [name for name in together[0] if name.startswith("probability_")]
    furthest = max(abs(a[n] - b[n]) for a, b in zip(together, alone, strict=True) for n in names)
    told = f"{len(together)} texts, {labels} labels differ, probabilities by at most {furthest:.4f}"
    print(f"alone and together: {told}")


if __name__ == "__main__":
    main()
