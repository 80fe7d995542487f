"""retrain: turn labelled reviews into a registered model, and promote it to champion if it passes the gate.

prepare (load -> validate -> hold out -> split -> tokenize) ->
pre-train further (optional) and fine-tune, both on the GPU pool ->
conclude (evaluate -> judge -> register -> promote)
"""

from flows.fine_tune import pretrain, train
from flows.forms.flow import form_flow
from flows.forms.pipelines import RetrainParams
from flows.stages.preparation import prepare
from flows.stages.release import conclude
from flows.stages.results import Retrained

_DEFAULTS = RetrainParams()


@form_flow(RetrainParams, name="retrain")
def retrain(params: RetrainParams = _DEFAULTS) -> Retrained:
    """Retrain a review classifier, register it in MLflow, and promote it to champion if it passes the gate."""
    prepared = pretrain(params, prepare(params))
    model = train(prepared.tokens, prepared.start, params.tokenization, params.training)
    return conclude(params, prepared, model)
