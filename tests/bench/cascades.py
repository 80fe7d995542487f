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
#: Tokens of the stages between the linear model and the exact one; 0 is all of them.
_LADDERS = {"fast": (0,), "fastest": (128, 0)}


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
    everything = {"linear": first.logits(rows), EXACT: exact.logits(rows)}
    found: dict[str, tuple[Contender, CascadeRecord]] = {}
    for row, ladder in _LADDERS.items():
        between = [Stage(f"{CHEAP} {cut or 'all'}", cheap, CHEAP, cut_tokens=cut) for cut in ladder]
        stages = [Stage("linear", first, "linear"), *between, Stage(EXACT, exact, EXACT)]
        for stage in between:
            if stage.name not in everything:
                everything[stage.name] = stage.logits(rows)
        rule = CascadeRule("fast", accuracy_margin=margin)
        cascade, record = fit_cascade(stages, Rows(rows, labels, everything), rule)
        found[f"cascade, {row}"] = (Contender(encoder, cascade), record)
    return found


def said(record: CascadeRecord) -> str:
    """Stages, and the share of the reviews that comes as far as each."""
    return ", ".join(f"{stage.name} {stage.scored_share:.0%}" for stage in record.stages)
