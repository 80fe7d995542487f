"""score: score every review below a prefix once, with one pinned version.

check -> pin version -> freeze the list of inputs -> score the shards -> join, count, prove -> _SUCCESS
"""

import time

from flows.forms.flow import form_flow
from flows.forms.scoring import ScoreParams
from flows.score_shards import score_together
from tasks.core.errors import DataError
from tasks.core.models.devices import resolve_device
from tasks.core.scoring.plan import Columns
from tasks.core.scoring.results import ScoreSummary
from tasks.registry.champion import pin_version, require_still_there
from tasks.runtime.runs.preflight import check_services
from tasks.scoring.engine import pin_engine, pin_precision
from tasks.scoring.finishing import finish_scoring
from tasks.scoring.planning import draft_run, plan_scoring

_DEFAULTS = ScoreParams()


@form_flow(ScoreParams, name="score")
def score(params: ScoreParams = _DEFAULTS) -> ScoreSummary:
    """Score every review below a prefix with a pinned model version; one output object for each input object."""
    started = time.time()
    check_services(params.engine.device, also_write_to=params.output)
    device = resolve_device(params.engine.device)
    model = pin_version(params.model_name, params.model_version)
    precision = params.engine.precision
    engine = pin_engine(model, params.engine.engine, device.type, precision)
    draft = draft_run(
        model=model,
        source=params.input,
        output=params.output,
        columns=Columns(text=params.text_column, id=params.id_column, keep=params.keep_columns),
        encoding=params.encoding,
        output_format=params.output_format,
        precision=pin_precision(model, engine, device.type, precision),
        engine=engine,
        csv_formula_guard=params.csv_formula_guard,
        max_rejected_fraction=params.max_rejected_fraction,
        rescore=params.scope == "rescore",
        allow_empty=params.allow_empty,
    )
    run = plan_scoring(draft)
    require_still_there(draft.model)
    score_together(run, params.engine, params.workers)
    summary = finish_scoring(run.place, started)
    if summary.failed:
        raise DataError(
            f"{summary.failed} of {summary.objects} objects were not scored; the first: {summary.errors[0]}",
            f"{summary.place}/_INCOMPLETE",
            "fix or remove them and run again; what is already scored is skipped",
        )
    return summary
