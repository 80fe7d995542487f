"""Fast cascades for the price list: a linear model first, int8 on fewer tokens next, the exact engine last.

Bands are fitted on labelled reviews of the test set that no row of the list is judged on.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasks.core import linear, modeling
from tasks.core.cascade import CascadeRecord, Rows, Stage, fit_cascade
from tasks.core.cascade_bands import CascadeRule
from tasks.core.engine import EngineOptions
from tests.bench import contenders
from tests.bench.contenders import Contender
from tests.bench.data import Reviews

CHEAP, EXACT = "openvino-int8", "openvino"
#: Tokens of int8 stages between, the last engine, and whether the linear model's evidence is added to the others'.
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
    """Cascades by the name of their row, and what each came to on the reviews that it was fitted on.

    Args:
        model: folder that `modeling.save` wrote.
        sample: texts for int8's calibration.
        train: what the linear model learns from.
        bands: labelled reviews that neither has seen.
        margin: by which the accuracy may seem lower, at a risk of 5%.
    Raises:
        RuntimeError: an engine cannot be had here; it says why.
    """
    for name in (CHEAP, EXACT):
        if why := contenders.build(name, model, sample):
            raise RuntimeError(why)
    encoder = modeling.load(model).encoder
    cheap, exact = (contenders.opened(n, model, EngineOptions()).engine for n in (CHEAP, EXACT))
    names = list(exact.label_names)
    first = linear.fit(
        encoder.encode(train.texts).input_ids, np.array(train.labels, dtype=np.int64), names
    )
    rows = encoder.encode(bands.texts).input_ids
    labels = np.array(bands.labels, dtype=np.int64)
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


def said(record: CascadeRecord) -> str:
    """Stages, and the share of the reviews that comes as far as each."""
    return ", ".join(f"{stage.name} {stage.scored_share:.0%}" for stage in record.stages)
