"""Benchmark a model's engines on the same rows: agreement with fp32, accuracy and throughput."""

import functools
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.core.decision import predict_labels
from tasks.core.engines import registry
from tasks.core.engines.cascade import engine as cascade_engine
from tasks.core.engines.cascade.bands import CascadeRule, Use
from tasks.core.engines.cascade.engine import CASCADES, CascadeKind
from tasks.core.engines.cascade.fitting import Rows, fit_cascade
from tasks.core.engines.cascade.records import CascadeRecord
from tasks.core.engines.cascade.stages import Cascade, Stage
from tasks.core.engines.params import EngineChoiceParams
from tasks.core.engines.protocol import Engine, EngineOptions
from tasks.core.engines.selection.agreement import (
    Agreement,
    agreement,
    require_independence,
    too_few,
    too_few_for_linear,
)
from tasks.core.engines.selection.records import EngineChoice, EngineRow
from tasks.core.engines.selection.texts import JudgedTexts, TokenRows
from tasks.core.engines.selection.timing import Clock, rows_per_second
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.errors import ModelError, first_line, is_disk_full
from tasks.core.models import classifier as modeling
from tasks.core.models.devices import resolve_precision
from tasks.core.models.linear import classifier as linear

logger = logging.getLogger(__name__)

#: Builds an engine for a model: its name, the model's folder, token rows to calibrate on.
Builder = Callable[[str, Path, Sequence[Sequence[int]]], None]
Logits = NDArray[np.float32]
_CALIBRATION_ROWS = 300  # rows for the calibration of int8
_WINDOW = 512  # rows passed to an engine at a time
_ON_CPU = EngineOptions(device="cpu")


def build_here(name: str, model: Path, sample: Sequence[Sequence[int]]) -> None:
    """Build an engine in this process. Raises ModelError, or whatever a converter raises, if it cannot be built."""
    folder = model / registry.FOLDER / name
    folder.mkdir(parents=True)
    registry.require(name).build(modeling.load(model), folder, sample)


class EngineBenchmark:
    """A benchmark of one model's engines on the same rows.

    Args:
        model: the model's folder.
        texts: the texts that the engines score.
        train, params, build: see `choose`.
    """

    def __init__(
        self,
        model: Path,
        texts: JudgedTexts,
        train: TokenRows,
        params: EngineChoiceParams,
        build: Builder,
    ) -> None:
        self._model, self._train, self._params, self._build = model, train, params, build
        self._texts, self._rows = texts, texts.rows
        self._opened: dict[str, Engine] = {}
        self._logits_of: dict[str, Logits] = {}
        self._notes: dict[str, str] = {}
        self._cascades: dict[str, CascadeRecord] = {}
        classifier = modeling.load(model)
        self._class_costs = classifier.class_costs
        self._fp32 = self._logits(TorchEngine(classifier, "cpu", "fp32"))

    def outcome(self, clock: Clock, machine: Mapping[str, str]) -> EngineChoice:
        """Build, run and time the engines; return the results of all, and the best eligible one."""
        names = {registry.TORCH, _fp32_torch(), *self._params.candidates} & set(registry.kinds())
        for name in sorted(names, key=lambda name: (name in CASCADES, name)):
            self._add(name, clock)
        timed = self._rows.drawn(self._params.timed_rows)
        speeds = rows_per_second(self._opened, timed, self._params.rounds, clock)
        rows = [self._row(name, speed) for name, speed in speeds.items()]
        rows += [EngineRow(name=name, note=note) for name, note in self._notes.items()]
        best = max((row for row in rows if row.eligible), key=self._sort_key)
        return EngineChoice(
            chosen=best.name,
            rows=rows,
            judged_rows=len(self._texts),
            judged_on=str(self._texts),
            too_few=too_few(self._texts, self._params.minimum_agreement)
            if best.name == _fp32_torch()
            else "",
            fp32_accuracy=self._accuracy(self._fp32),
            cascades=self._cascades,
            machine=dict(machine),
        )

    def _add(self, name: str, clock: Clock) -> None:
        """Build an engine and compute its answers. A failure is noted and does not stop the others."""
        if not registry.available(name):
            missing = registry.missing_packages(name)
            self._notes[name] = f"{', '.join(missing)} is not installed here"
            return
        try:
            cascade = CASCADES.get(name)
            engine = self._fitted_cascade(cascade, clock) if cascade else self._built(name)
            answers = self._logits(engine)
            if name not in (registry.TORCH, registry.TORCH_FP32):
                limits = self._params.maximum_change, self._class_costs
                require_independence(engine, self._rows.input_ids, answers, *limits)
            self._logits_of[name], self._opened[name] = answers, engine
            logger.info("The engine %s: %s", name, self._agreement(name))
        except Exception as error:  # converters raise anything for unknown architectures
            if is_disk_full(error):
                raise
            self._notes[name] = first_line(error)
            ours = not isinstance(error, ModelError)  # perhaps a bug here: log the traceback
            logger.warning("The engine %s is left out: %s", name, self._notes[name], exc_info=ours)
            shutil.rmtree(self._folder(name), ignore_errors=True)

    def _folder(self, name: str) -> Path:
        return self._model / registry.FOLDER / name

    def _built(self, name: str) -> Engine:
        kind, classifier = registry.require(name), modeling.load(self._model)
        if why_not := kind.suits(classifier, torch.device("cpu")):
            raise ModelError(why_not)
        if name not in (registry.TORCH, registry.TORCH_FP32):
            self._build(name, self._model, self._train.drawn(_CALIBRATION_ROWS).input_ids)
        return registry.open_engine(name, modeling.load(self._model), self._model, _ON_CPU)

    def _fitted_cascade(self, kind: CascadeKind, clock: Clock) -> Engine:
        """Fit a cascade on engines that are open, plus one in fp32 if labels are kept. Its files refer to theirs."""
        # Without bf16 the first stage runs in fp32. That saves nothing only if the last stage is fp32 again.
        suits = kind.suits if self._params.keeps_labels else registry.kind_of(kind.exact).suits
        if why_not := suits(modeling.load(self._model), torch.device("cpu")):
            raise ModelError(why_not)
        if kind.cheap not in self._opened:
            raise ModelError(f"Its first stage, {kind.cheap}, is not available")
        exact = kind.exact if kind.exact in self._opened else registry.TORCH
        cheap = self._stage(kind.cheap)
        if self._params.cascade == "exact":
            stages = [cheap, self._in_fp32(exact)]
            cascade, record = self._fitted(stages, "exact", self._texts.all)
        elif self._params.cascade == "labels":
            cascade, record = self._with_labels_kept([cheap, self._in_fp32(exact)], clock)
        else:
            # the linear model's evidence adds more accuracy than full precision would
            last = [] if self._params.cascade == "blended" or cheap.kind == exact else [exact]
            stages = [self._linear, cheap, *map(self._stage, last)]
            cascade, record = self._fitted(stages, "fast", self._texts.validation)
        if len(cascade.stages) == 1:
            raise ModelError(
                "No cheap stage is reliable enough to label any review, or the last stage is less accurate than fp32"
            )
        self._folder(kind.name).mkdir(parents=True)
        cascade_engine.write(self._folder(kind.name), cascade, record)
        self._cascades[kind.name] = record
        return cascade

    def _stage(self, name: str) -> Stage:
        return self._stage_with(self._opened[name], name, name)

    def _stage_with(self, engine: Engine, kind: str, name: str) -> Stage:
        return Stage(name, engine, kind, folder=f"../{kind}", class_costs=self._class_costs)

    def _in_fp32(self, name: str) -> Stage:
        classifier = modeling.load(self._model)
        opened = registry.open_engine(name, classifier, self._model, cascade_engine.IN_FP32)
        return replace(self._stage_with(opened, name, f"{name} fp32"), precision="fp32")

    @functools.cached_property
    def _linear(self) -> Stage:
        names = list(self._opened[registry.TORCH].label_names)
        first = linear.fit(self._train.input_ids, self._train.labels, names)
        return Stage(cascade_engine.LINEAR, first, cascade_engine.LINEAR)

    def _fitted(
        self, stages: Sequence[Stage], use: Use, indices: NDArray[np.int64]
    ) -> tuple[Cascade, CascadeRecord]:
        """Fit a cascade on the texts at these indices, against the model in fp32.

        A cascade that keeps labels ends with that model.
        """
        own, drawn = self._params, self._rows.at(indices)
        answers = {name: logits[indices] for name, logits in self._logits_of.items()}
        if use != "fast":
            answers[stages[-1].name] = self._fp32[indices]
        rows = Rows(drawn.input_ids, drawn.labels, answers, self._fp32[indices])
        rule = CascadeRule(
            use,
            own.minimum_agreement,
            own.accuracy_margin,
            maximum_change=self._max_change(use),
            blends=own.cascade == "blended",
            class_costs=self._class_costs,
        )
        return fit_cascade(stages, rows, rule)

    def _max_change(self, use: Use) -> float:
        """Return the allowed change of a probability: 1 unless exact, as a linear model's probabilities differ."""
        return self._params.maximum_change if use == "exact" else 1.0

    def _with_labels_kept(
        self, stages: Sequence[Stage], clock: Clock
    ) -> tuple[Cascade, CascadeRecord]:
        """Fit a cascade with and without a linear model first, and return the faster one.

        Without it, deferral thresholds may be lower.
        """
        without, record = self._fitted(stages, "exact", self._texts.all)
        untrained = self._texts.untrained
        why_not = too_few_for_linear(len(untrained), self._params)
        if not why_not:
            with_linear = self._fitted([self._linear, *stages], "labels", untrained)
            if with_linear[1].stages[0].kind != cascade_engine.LINEAR:
                why_not = (
                    "No linear first stage: too few of its labels are certain to match the model's"
                )
            elif not self._is_faster(with_linear[0], without, clock):
                why_not = "No linear first stage: its higher thresholds make it no faster"
            else:
                return with_linear
        logger.info(why_not)
        return without, record.model_copy(update={"note": why_not})

    def _is_faster(self, one: Engine, other: Engine, clock: Clock) -> bool:
        timed = self._rows.drawn(self._params.timed_rows)
        speeds = rows_per_second({"one": one, "other": other}, timed, self._params.rounds, clock)
        return speeds["one"] > speeds["other"]

    def _logits(self, engine: Engine) -> Logits:
        ids = self._rows.input_ids
        parts = [engine.logits(ids[at : at + _WINDOW]) for at in range(0, len(ids), _WINDOW)]
        logits = np.concatenate(parts)
        if not np.isfinite(logits).all():
            raise ModelError("Some logits are NaN or infinite")
        return logits

    def _accuracy(self, logits: Logits) -> float | None:
        """Return the accuracy on the validation reviews among the texts, or None if there are none."""
        indices = self._texts.validation
        right = predict_labels(logits)[indices] == self._rows.labels[indices]
        return float(right.mean()) if len(indices) else None

    def _use(self, name: str) -> Use:
        record = self._cascades.get(name)
        return record.use if record else "exact"

    def _agreement(self, name: str) -> Agreement:
        """Return an engine's agreement with fp32 on the texts that count for it."""
        use = self._use(name)
        indices = self._texts.untrained if use == "labels" else self._texts.all
        answers, fp32 = self._logits_of[name][indices], self._fp32[indices]
        return agreement(answers, fp32, self._max_change(use), self._class_costs)

    def _sort_key(self, row: EngineRow) -> tuple[bool, float]:
        """Return the sort key of an engine: throughput, but a blended cascade that is more accurate comes first."""
        blended = self._params.cascade == "blended" and row.name in CASCADES
        more_accurate = (row.accuracy or 0.0) > (self._accuracy(self._fp32) or 0.0)
        return blended and more_accurate, row.reviews_per_second or 0.0

    def _row(self, name: str, speed: float) -> EngineRow:
        accuracy, agrees = self._accuracy(self._logits_of[name]), self._agreement(name)
        record = self._cascades.get(name)
        if record and record.use == "fast":
            # A blended cascade is no less accurate in expectation; if rows are few, the frozen test set decides.
            may = record.holds or self._params.cascade == "blended"
            eligible = may and (accuracy or 0.0) >= (self._accuracy(self._fp32) or 0.0)
        else:
            eligible = agrees.shows(self._params.minimum_agreement)
        notes = (record.promise, record.note) if record else ()
        return EngineRow(
            name=name,
            reviews_per_second=round(speed, 2),
            agreement=agrees.same_labels,
            differing=int(agrees.differs.sum()),
            shown=agrees.shown,
            largest_change=agrees.largest_change,
            accuracy=accuracy,
            # fp32 is the reference, so it is always eligible.
            eligible=eligible or name == _fp32_torch(),
            note="; ".join(filter(None, (str(agrees), *notes))),
        )


def _fp32_torch() -> str:
    """Return the engine that scores in fp32: torch itself if the processor does not multiply in bf16."""
    bf16 = resolve_precision("auto", torch.device("cpu")) == "bf16"
    return registry.TORCH_FP32 if bf16 else registry.TORCH
