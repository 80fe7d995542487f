"""Cascades as scoring engines: int8 or bf16 first and fp32 for rows near the decision boundary, or as fitted.

`build` fits an exact cascade on the sample only, which needs no labels. `write` puts a cascade that was fitted
elsewhere into the model's folder; its stages may be other engines of the model, in the folders beside it. cascade.json
holds the fitted stages and their results, and is written last.
"""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pydantic import ValidationError

from tasks.core.engines import registry
from tasks.core.engines.cascade.bands import CascadeRule
from tasks.core.engines.cascade.fitting import Rows, fit_cascade
from tasks.core.engines.cascade.records import CascadeRecord, StageRecord
from tasks.core.engines.cascade.stages import Cascade, Stage
from tasks.core.engines.protocol import Engine, EngineOptions
from tasks.core.errors import ModelError
from tasks.core.models import classifier as modeling
from tasks.core.models import devices
from tasks.core.models.classifier import Classifier
from tasks.core.models.linear import classifier as linear

RECORD = "cascade.json"
LINEAR, LINEAR_FILE = "linear", "linear.safetensors"
CHEAP, EXACT = "openvino-int8", "openvino"
IN_FP32 = EngineOptions(device="cpu", precision="fp32")
_CPU = torch.device("cpu")


def write(folder: Path, cascade: Cascade, record: CascadeRecord) -> None:
    """Write a fitted cascade to a folder. The files of its stages are in that folder or beside it.

    Args:
        folder: exists.
        cascade: its linear stage is saved; its other engines were built where the record says.
        record: the record that `fit_cascade` returned with it.
    """
    for stage in cascade.stages:
        if isinstance(stage.engine, linear.LinearClassifier):
            stage.engine.save(folder / LINEAR_FILE)
    part = folder / f"{RECORD}.part"
    part.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    os.replace(part, folder / RECORD)


def read(folder: Path) -> CascadeRecord:
    """Read the record that `write` wrote. Raises ModelError if it is missing or of another version."""
    try:
        return CascadeRecord.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise ModelError(
            f"The cascade cannot be read: {error}",
            str(folder / RECORD),
            "register the model again, or choose the engine torch",
        ) from error


@dataclass(frozen=True)
class CascadeKind:
    """A kind of cascade: one engine first, then one in fp32; if accuracy is the criterion, whatever was fitted.

    Attributes:
        name: the name in the registry.
        cheap: the first engine, in its own precision.
        exact: the last engine.
        extra: the extra that installs them.
    """

    name: str
    cheap: str
    exact: str = EXACT
    extra: str = "openvino"

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages of its stages."""
        return registry.kind_of(self.cheap).packages

    def suits(self, classifier: Classifier, device: torch.device) -> str:
        """Return why it cannot run. It needs what its stages need, and a first stage in bf16 a processor with bf16."""
        if self.cheap == self.exact and devices.resolve_precision("auto", _CPU) != "bf16":
            return "this processor has no bf16"
        if device.type != "cpu":
            return "cascades run on CPUs"
        return registry.kind_of(self.exact).suits(classifier, device)

    def build(self, classifier: Classifier, folder: Path, sample: Sequence[Sequence[int]]) -> None:
        """Build both stages within the folder, and fit the deferral threshold on the sample.

        Raises:
            ModelError: a stage cannot be built, or there is no sample.
        """
        for name in {self.cheap, self.exact}:
            kind, stage_folder = registry.require(name), folder / name
            stage_folder.mkdir()
            kind.build(classifier, stage_folder, sample)
        records = [
            StageRecord(name=self.cheap, kind=self.cheap, folder=self.cheap),
            StageRecord(
                name=f"{self.exact} fp32", kind=self.exact, folder=self.exact, precision="fp32"
            ),
        ]
        options = EngineOptions(device="cpu")
        stages = [_opened(record, classifier, folder, options) for record in records]
        write(
            folder,
            *fit_cascade(stages, Rows(sample), CascadeRule(class_costs=classifier.class_costs)),
        )

    def open(self, classifier: Classifier, folder: Path, options: EngineOptions) -> Engine:
        """Open the cascade. Raises ModelError, or SettingsError if a stage's packages are not installed here."""
        stages = read(folder).stages
        opened = [_opened(stage, classifier, folder, options) for stage in stages]
        return Cascade(opened, classifier.class_costs)


def _opened(
    record: StageRecord, classifier: Classifier, folder: Path, options: EngineOptions
) -> Stage:
    """Open a stage from its record."""
    if record.model:
        classifier = modeling.load(folder / record.model)
    elif record.kind == registry.TORCH:  # casts the weights in place, so it gets a copy
        classifier = replace(classifier, model=copy.deepcopy(classifier.model))
    if record.precision != "auto":
        options = replace(options, precision=record.precision)
    if record.kind == LINEAR:
        engine: Engine = linear.load(folder / record.folder / LINEAR_FILE)
        class_costs: Sequence[float] = ()  # it was fitted on labels
    else:
        engine = registry.require(record.kind).open(classifier, folder / record.folder, options)
        class_costs = classifier.class_costs
    facts = record.model_dump(exclude={"scored_share"})
    return Stage(engine=engine, class_costs=class_costs, **facts)


KIND = CascadeKind("cascade", CHEAP)
BF16 = CascadeKind("cascade-bf16", EXACT)

#: Kinds of cascades by name.
CASCADES = {kind.name: kind for kind in (KIND, BF16)}
