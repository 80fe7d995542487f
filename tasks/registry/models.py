"""Models under evaluation: one just trained, or a registered version. Both are opened and identified alike."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.data.labels import same_labels
from tasks.core.errors import ModelError
from tasks.core.models import classifier as modeling
from tasks.core.models.classifier import Classifier
from tasks.core.records import ModelVersion, Reference
from tasks.core.training.records import TrainingSummary
from tasks.runtime.clients import model_registry
from tasks.runtime.steps import fetched, work_folder

JudgedModel = Reference[TrainingSummary] | ModelVersion


def name_of(model: JudgedModel) -> str:
    """Return the name of a model for people."""
    return str(model) if isinstance(model, ModelVersion) else model.summary.base_model


def digest_of_model(model: JudgedModel) -> str:
    """Return the digest of a model's training, the key of results about it. Without one, a version names itself."""
    if isinstance(model, ModelVersion):
        return model.model_digest or f"{model}, MLflow run {model.run_id}"
    return model.digest


@contextmanager
def opened(model: JudgedModel, label_names: list[str]) -> Generator[Classifier]:
    """Load the classifier of a model.

    Raises:
        ModelError: it has other labels than these, or cannot be loaded.
    """
    with _folder(model) as folder:
        classifier = modeling.load(folder)
        if not same_labels(classifier.label_names, label_names):
            raise ModelError(
                f"{name_of(model)} has the labels {', '.join(classifier.label_names)}, but the test set has "
                f"{', '.join(label_names)}",
                "",
                "register it under another registration.model_name, or set data.source.label_names",
            )
        yield classifier


@contextmanager
def _folder(model: JudgedModel) -> Generator[Path]:
    if isinstance(model, ModelVersion):
        with work_folder("version") as folder:
            yield model_registry().download(model, folder)
    else:
        with fetched(model) as folder:
            yield folder
