"""Cascades that begin with a linear model: fast ones for the price list, and for `scoring` one that keeps fp32's
labels.

Bands are fitted on labelled reviews of the test set that are excluded from the evaluation of every table row.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed import contenders
from benchmarks.speed.contenders import Contender
from benchmarks.speed.data import Reviews
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.engines.cascade.bands import CascadeRule
from tasks.core.engines.cascade.fitting import Rows, fit_cascade
from tasks.core.engines.cascade.records import CascadeRecord
from tasks.core.engines.cascade.stages import Stage
from tasks.core.engines.protocol import EngineOptions
from tasks.core.models import classifier as modeling
from tasks.core.models.linear import classifier as linear
from tasks.core.models.linear.classifier import LinearClassifier

CHEAP, EXACT = "openvino-int8", "openvino"
#: Token cuts of the int8 stages in between, the last engine, and whether the linear model's evidence is added.
_LADDERS = {
    "cascade, fast": ((), EXACT, False),
    "cascade, blended": ((), EXACT, True),
    "cascade, blended int8": ((), CHEAP, True),
    "cascade, blended int8, 128 tokens first": ((128,), CHEAP, True),
    "cascade, blended int8, 64 tokens first": ((64,), CHEAP, True),
}


def fitted(
    model: Path, sample: Sequence[str], train: Reviews, bands: Reviews, margin: float
) -> dict[str, tuple[Contender, CascadeRecord]]:
    """Fit fast cascades; return them by the name of their row, with their records on the fitting reviews.

    Args:
        model: folder that `classifier.save` wrote.
        sample: texts for int8's calibration.
        train: training reviews of the linear model.
        bands: labelled reviews that neither model has seen.
        margin: by which the accuracy may appear lower, at a risk of 5%.
    Raises:
        RuntimeError: an engine is not available here; it says why.
    """
    encoder, first, rows, labels = _prepared(model, sample, train, bands, (CHEAP, EXACT))
    cheap, exact = (contenders.opened(n, model, EngineOptions()).engine for n in (CHEAP, EXACT))
    known = {"linear": first.logits(rows), EXACT: exact.logits(rows), CHEAP: cheap.logits(rows)}
    found: dict[str, tuple[Contender, CascadeRecord]] = {}
    for row, (cuts, last, blends) in _LADDERS.items():
        between = [Stage(f"{CHEAP} {cut}", cheap, CHEAP, cut_tokens=cut) for cut in cuts]
        if last == EXACT:
            between.append(Stage(CHEAP, cheap, CHEAP))
        stages = [Stage("linear", first, "linear"), *between]
        stages.append(Stage(last, exact if last == EXACT else cheap, last))
        rule = CascadeRule("fast", accuracy_margin=margin, blends=blends)
        cascade, record = fit_cascade(stages, Rows(rows, labels, known, known[EXACT]), rule)
        found[row] = (Contender(encoder, cascade), record)
    return found


def keeping_labels(
    model: Path, sample: Sequence[str], train: Reviews, bands: Reviews
) -> tuple[Contender, CascadeRecord]:
    """Fit a cascade: a linear model where its labels are certain to be fp32's, then OpenVINO's precision, then fp32.

    Args and errors are those of `fitted`.
    """
    encoder, first, rows, labels = _prepared(model, sample, train, bands, (EXACT,))
    quick, exact = (
        contenders.opened(EXACT, model, EngineOptions(precision=precision)).engine
        for precision in ("auto", "fp32")
    )
    stages = [
        Stage("linear", first, "linear"),
        Stage(EXACT, quick, EXACT),
        Stage(f"{EXACT} fp32", exact, EXACT, precision="fp32"),
    ]
    cascade, record = fit_cascade(stages, Rows(rows, labels), CascadeRule("labels"))
    return Contender(encoder, cascade), record


def _prepared(
    model: Path, sample: Sequence[str], train: Reviews, bands: Reviews, names: Sequence[str]
) -> tuple[Encoder, LinearClassifier, list[list[int]], NDArray[np.int64]]:
    """Build the engines, train a linear model, and return them with the rows that bands are fitted on."""
    for name in names:
        if why := contenders.build(name, model, sample):
            raise RuntimeError(why)
    classifier = modeling.load(model)
    encoder = classifier.encoder
    ids = encoder.encode(train.texts).input_ids
    first = linear.fit(ids, np.array(train.labels, dtype=np.int64), classifier.label_names)
    return (
        encoder,
        first,
        encoder.encode(bands.texts).input_ids,
        np.array(bands.labels, dtype=np.int64),
    )


def said(record: CascadeRecord) -> str:
    """Describe the stages, and the share of the reviews that reaches each."""
    return ", ".join(f"{stage.name} {stage.scored_share:.0%}" for stage in record.stages)
