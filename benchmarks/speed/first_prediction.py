"""Time the steps to the first prediction in a fresh process, for `cold_start.py`.

    python -m benchmarks.speed.first_prediction START ENGINE MODEL_URI

START is time.time() when the process was started. Prints one line of JSON: the seconds of each step.
"""

import time

_BEGUN = time.time()

import json  # noqa: E402 - the clock first
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

TEXT = "A dull plot, but the cast is wonderful and the last hour moved me to tears."


class Laps:
    """Measures the seconds since the previous step."""

    def __init__(self, start: float) -> None:
        self.seconds: dict[str, float] = {"interpreter": _BEGUN - start}
        self._last = _BEGUN

    def lap(self, name: str) -> None:
        now = time.time()
        self.seconds[name] = now - self._last
        self._last = now


def main() -> None:
    """Run the steps of a scoring worker."""
    start, name, uri = sys.argv[1:4]
    laps = Laps(float(start))
    import torch  # noqa: F401

    laps.lap("import torch")
    import transformers  # noqa: F401

    laps.lap("import transformers")
    from benchmarks.speed.contenders import Contender
    from tasks.core.engines import registry
    from tasks.core.engines.protocol import EngineOptions
    from tasks.core.models import classifier as modeling

    laps.lap("import Nightshift")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(uri)
        if uri.startswith("s3://"):
            folder = Path(work) / "model"
            _download(uri, folder)
            laps.lap("download")
        classifier = modeling.load(folder)
        laps.lap("load")
        encoder = classifier.encoder
        engine = registry.open_engine(name, classifier, folder, EngineOptions())
        laps.lap("open the engine")
        Contender(encoder, engine).answers([TEXT])
        laps.lap("first prediction")
    print(json.dumps(laps.seconds))


def _download(uri: str, folder: Path) -> None:
    from os import environ

    from tasks.connectors.storage.object_store import ObjectStore

    store = ObjectStore(environ.get("AWS_ENDPOINT_URL_S3"))
    for item in store.list(uri):
        target = folder / item.uri.removeprefix(uri)
        target.parent.mkdir(parents=True, exist_ok=True)
        store.download(item.uri, target)


if __name__ == "__main__":
    main()
