"""tune: search the settings of a training, then release the best model as a retraining does.

prepare -> trials of fine-tune on the GPU pool, one after the other or several at once -> conclude
"""

from flows.fine_tune import Outcome, pretrain, train_trial
from flows.forms.flow import form_flow
from flows.forms.pipelines import TuneParams
from flows.stages.preparation import prepare
from flows.stages.release import conclude
from flows.stages.results import Tuned
from tasks.core.training.params import TrainingParams
from tasks.core.training.tuning.params import TrialParams
from tasks.core.training.tuning.sweep import most_demanding
from tasks.training.tuning.sweep import check_study_database, run_sweep

_DEFAULTS = TuneParams()


@form_flow(TuneParams, name="tune")
def tune(params: TuneParams = _DEFAULTS) -> Tuned:
    """Search the settings of a training; the best model is evaluated, registered and promoted like a retrained one."""
    check_study_database()
    hardest = most_demanding(params.training, params.sweep.space)
    demanding = params.model_copy(update={"training": hardest})
    prepared = pretrain(demanding, prepare(demanding))

    def train(training: TrainingParams, trial: TrialParams | None) -> Outcome:
        return train_trial(prepared.tokens, prepared.start, params.tokenization, training, trial)

    swept = run_sweep(prepared.tokens, prepared.start, params.training, params.sweep, train)
    best = params.retraining(swept.training)
    return Tuned(sweep=swept.summary, retrained=conclude(best, prepared, swept.model))
