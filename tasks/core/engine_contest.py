"""Engines of one model answer the same rows and take turns: who says what fp32 says, and how fast."""

import functools
import logging
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.core import engines, linear, modeling
from tasks.core.cascade import Cascade, CascadeRecord, Rows, Stage, fit_cascade
from tasks.core.cascade_bands import CascadeRule, Use, least_rows
from tasks.core.engine import Engine, EngineOptions, softmax
from tasks.core.engine_choice_params import EngineChoiceParams
from tasks.core.engine_choice_records import EngineChoice, EngineRow
from tasks.core.engines import cascade_engine
from tasks.core.engines.cascade_engine import CascadeKind
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.errors import ModelError, first_line, is_disk_full

logger = logging.getLogger(__name__)

Clock = Callable[[], float]
#: Builds an engine for a model: its name, the model's folder, token rows to calibrate on.
Builder = Callable[[str, Path, Sequence[Sequence[int]]], None]
Logits = NDArray[np.float32]
CASCADES = {
    kind.name: kind for kind in (cascade_engine.KIND, cascade_engine.BF16, cascade_engine.BY_TORCH)
}
_CALIBRATION_ROWS = 300  # that int8 is fitted to
_WINDOW = 512  # rows that engines are given at a time
_ON_CPU = EngineOptions(device="cpu")


@dataclass(frozen=True)
class TokenRows:
    """Token rows and their class ids, shape (rows,)."""

    input_ids: Sequence[Sequence[int]]
    labels: NDArray[np.int64]

    def drawn(self, most: int) -> "TokenRows":
        """At most so many, drawn evenly; the same ones every time."""
        places = np.random.default_rng(0).permutation(len(self.input_ids))[:most]
        return TokenRows([self.input_ids[i] for i in places.tolist()], self.labels[places])


def build_here(name: str, model: Path, sample: Sequence[Sequence[int]]) -> None:
    """Build an engine in this process. Raises ModelError, or whatever a converter raises, where it cannot be built."""
    folder = model / engines.FOLDER / name
    folder.mkdir(parents=True)
    engines.require(name).build(modeling.load(model), folder, sample)


class Contest:
    """Engines of one model that answer the same rows.

    Args:
        model: its folder.
        rows: that they answer.
        train: see `choose`.
        params, build: see there.
    """

    def __init__(
        self,
        model: Path,
        rows: TokenRows,
        train: TokenRows,
        params: EngineChoiceParams,
        build: Builder,
    ) -> None:
        self._build = build
        self._model, self._rows, self._train, self._params = model, rows, train, params
        self._opened: dict[str, Engine] = {}
        self._answers: dict[str, Logits] = {}
        self._notes: dict[str, str] = {}
        self._cascades: dict[str, CascadeRecord] = {}
        self._fp32 = self._answered(TorchEngine(modeling.load(model), "cpu", "fp32"))

    def outcome(self, clock: Clock, machine: Mapping[str, str]) -> EngineChoice:
        """Build them, let them answer, time them: all rows, and the best of those that may be chosen."""
        wanted = {engines.TORCH, *self._params.candidates} & set(engines.kinds())
        for name in sorted(wanted, key=_cascades_last):
            self._enter(name, clock)
        timed = self._rows.drawn(self._params.timed_rows)
        speeds = _speeds(self._opened, timed, self._params.rounds, clock)
        rows = [self._row(name, speed) for name, speed in speeds.items()]
        rows += [EngineRow(name=name, note=note) for name, note in self._notes.items()]
        best = max((row for row in rows if row.eligible), key=self._worth)
        return EngineChoice(
            chosen=best.name,
            rows=rows,
            judged_rows=len(self._rows.input_ids),
            fp32_accuracy=self._right(self._fp32),
            cascades=self._cascades,
            machine=dict(machine),
        )

    def _enter(self, name: str, clock: Clock) -> None:
        """Build an engine and let it answer; one that cannot is noted, and does not stop the others."""
        if not engines.available(name):
            missing = engines.missing_packages(name)
            self._notes[name] = f"{', '.join(missing)} is not installed here"
            return
        try:
            cascade = CASCADES.get(name)
            engine = self._fitted_cascade(cascade, clock) if cascade else self._built(name)
            self._answers[name] = self._answered(engine)
            self._opened[name] = engine
            logger.info(
                "The engine %s gives %.2f%% of %s reviews the label that they have in fp32",
                name,
                100 * self._agreement(name),
                f"{len(self._rows.input_ids):,}",
            )
        except Exception as error:  # whatever a converter makes of an architecture it does not know
            if is_disk_full(error):
                raise
            self._notes[name] = first_line(error)
            ours = not isinstance(error, ModelError)  # perhaps: say where
            logger.warning("The engine %s is left out: %s", name, self._notes[name], exc_info=ours)
            shutil.rmtree(self._folder(name), ignore_errors=True)

    def _folder(self, name: str) -> Path:
        return self._model / engines.FOLDER / name

    def _built(self, name: str) -> Engine:
        kind, classifier = engines.require(name), modeling.load(self._model)
        if why_not := kind.suits(classifier, torch.device("cpu")):
            raise ModelError(why_not)
        if name != engines.TORCH:
            self._build(name, self._model, self._train.drawn(_CALIBRATION_ROWS).input_ids)
        return engines.open_engine(name, modeling.load(self._model), self._model, _ON_CPU)

    def _fitted_cascade(self, kind: CascadeKind, clock: Clock) -> Engine:
        """From engines that are open already, and where labels are kept one in fp32; its files refer to theirs."""
        # Only where fp32 comes again at the end does a first stage that runs in it, for want of bf16, save nothing.
        suits = kind.suits if self._params.keeps_labels else engines.kind_of(kind.exact).suits
        if why_not := suits(modeling.load(self._model), torch.device("cpu")):
            raise ModelError(why_not)
        if kind.cheap not in self._opened:
            raise ModelError(f"It wants {kind.cheap}, which there is not")
        exact = kind.exact if kind.exact in self._opened else engines.TORCH
        cheap = self._stage(kind.cheap)
        if self._params.cascade == "exact":
            cascade, record = self._fitted([cheap, self._in_fp32(exact)], "exact")
        elif self._params.cascade == "labels":
            cascade, record = self._with_labels_kept([cheap, self._in_fp32(exact)], clock)
        else:
            # what the linear model adds makes up for more than full precision would
            last = [] if self._params.cascade == "blended" or cheap.kind == exact else [exact]
            stages = [self._linear, cheap, *map(self._stage, last)]
            cascade, record = self._fitted(stages, "fast")
        if len(cascade.stages) == 1:
            raise ModelError(
                "No answer of its first stages is clear enough, or its last one is not as accurate as fp32"
            )
        self._folder(kind.name).mkdir(parents=True)
        cascade_engine.write(self._folder(kind.name), cascade, record)
        self._cascades[kind.name] = record
        return cascade

    def _stage(self, name: str) -> Stage:
        return Stage(name, self._opened[name], name, folder=f"../{name}")

    def _in_fp32(self, name: str) -> Stage:
        classifier = modeling.load(self._model)
        opened = engines.open_engine(name, classifier, self._model, cascade_engine.IN_FP32)
        return Stage(f"{name} fp32", opened, name, folder=f"../{name}", precision="fp32")

    @functools.cached_property
    def _linear(self) -> Stage:
        names = list(self._opened[engines.TORCH].label_names)
        first = linear.fit(self._train.input_ids, self._train.labels, names)
        return Stage(cascade_engine.LINEAR, first, cascade_engine.LINEAR)

    def _fitted(self, stages: Sequence[Stage], use: Use) -> tuple[Cascade, CascadeRecord]:
        """Beside the model in fp32, which the last stage of a cascade that keeps labels is."""
        own = self._params
        known = dict(self._answers)
        if use != "fast":
            known[stages[-1].name] = self._fp32
        rows = Rows(self._rows.input_ids, self._rows.labels, known, self._fp32)
        blends = own.cascade == "blended"
        rule = CascadeRule(use, own.minimum_agreement, own.accuracy_margin, blends=blends)
        return fit_cascade(stages, rows, rule)

    def _with_labels_kept(
        self, stages: Sequence[Stage], clock: Clock
    ) -> tuple[Cascade, CascadeRecord]:
        """Behind the linear model or without it, whichever is faster: without, bands may be narrower."""
        without, record = self._fitted(stages, "exact")
        why_not = too_few_for_linear(len(self._rows.input_ids), self._params)
        if not why_not:
            behind = self._fitted([self._linear, *stages], "labels")
            if behind[1].stages[0].kind != cascade_engine.LINEAR:
                why_not = (
                    "No linear model comes first: its label is sure to be the model's too rarely"
                )
            elif not self._is_faster(behind[0], without, clock):
                why_not = "No linear model comes first: with its wider bands it is no faster"
            else:
                return behind
        logger.info(why_not)
        return without, record.model_copy(update={"note": why_not})

    def _is_faster(self, one: Engine, other: Engine, clock: Clock) -> bool:
        timed = self._rows.drawn(self._params.timed_rows)
        speeds = _speeds({"one": one, "other": other}, timed, self._params.rounds, clock)
        return speeds["one"] > speeds["other"]

    def _answered(self, engine: Engine) -> Logits:
        ids = self._rows.input_ids
        parts = [engine.logits(ids[at : at + _WINDOW]) for at in range(0, len(ids), _WINDOW)]
        found = np.concatenate(parts)
        if not np.isfinite(found).all():
            raise ModelError("Some of its answers are no numbers")
        return found

    def _right(self, logits: Logits) -> float:
        return float((logits.argmax(axis=1) == self._rows.labels).mean())

    def _agreement(self, name: str) -> float:
        return float((self._answers[name].argmax(axis=1) == self._fp32.argmax(axis=1)).mean())

    def _agrees(self, name: str) -> bool:
        return self._agreement(name) >= self._params.minimum_agreement

    def _worth(self, row: EngineRow) -> tuple[bool, float]:
        """Speed; but evidence that is blended in for accuracy's sake is worth more where it makes a difference."""
        blended = self._params.cascade == "blended" and row.name in CASCADES
        more_accurate = (row.accuracy or 0.0) > self._right(self._fp32)
        return blended and more_accurate, row.reviews_per_second or 0.0

    def _row(self, name: str, speed: float) -> EngineRow:
        found = self._answers[name]
        record = self._cascades.get(name)
        if record and record.use == "fast":
            # What is blended is no less accurate in expectation; where rows are few, the frozen test set decides.
            may = record.holds or self._params.cascade == "blended"
            eligible = may and self._right(found) >= self._right(self._fp32)
        else:
            eligible = self._agrees(name)
        return EngineRow(
            name=name,
            reviews_per_second=round(speed, 2),
            agreement=self._agreement(name),
            largest_change=float(np.abs(softmax(found) - softmax(self._fp32)).max()),
            accuracy=self._right(found),
            eligible=eligible or name == engines.TORCH,  # which runs everything
            note="; ".join(filter(None, (record.promise, record.note))) if record else "",
        )


def too_few_for_linear(rows: int, params: EngineChoiceParams) -> str:
    """Why a cascade that keeps labels cannot begin with a linear model; empty where it can, or there will be none.

    Args:
        rows: of the validation set.
        params: what is asked for.
    """
    needed = least_rows(1 - params.minimum_agreement, CascadeRule().risk)
    cascades = any(name in CASCADES and engines.available(name) for name in params.candidates)
    asked = params.measure and params.cascade == "labels" and cascades
    if not asked or min(rows, params.judged_rows) >= needed:
        return ""
    enough = f"{needed:,}" if math.isfinite(needed) else "infinitely many"
    looked_at = f", of which {params.judged_rows:,} are asked" if params.judged_rows < rows else ""
    return (
        f"No linear model comes first: that its labels are sure to be the model's takes {enough} validation reviews, "
        f"and there are {rows:,}{looked_at} [engines.cascade]: raise data.split.validation_fraction or "
        "engines.judged_rows, or lower engines.minimum_agreement"
    )


def _cascades_last(name: str) -> tuple[bool, str]:
    return name in CASCADES, name


def _speeds(
    opened: Mapping[str, Engine], rows: TokenRows, rounds: int, clock: Clock
) -> dict[str, float]:
    """Rows a second of each engine: the median of several rounds, in which they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in opened}
    for _ in range(rounds):
        for name, engine in opened.items():
            started = clock()
            engine.logits(rows.input_ids)
            seconds[name].append(clock() - started)
    return {name: len(rows.input_ids) / max(median(s), 1e-9) for name, s in seconds.items()}
