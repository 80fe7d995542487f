"""Names of the tags that Nightshift sets on MLflow runs and model versions."""

#: Inputs of a version.
MODEL_DIGEST_TAG = "nightshift.model_digest"
DATA_DIGEST_TAG = "nightshift.data_digest"
BASE_MODEL_TAG = "nightshift.base_model"
BASE_REVISION_TAG = "nightshift.base_revision"
TEACHER_TAG = "nightshift.teacher"  # set by release 0.1, which distilled models; read for lineage
PARAMS_TAG = "nightshift.params"
CODE_TAG = "nightshift.code"
LINEAGE_TAG = "nightshift.lineage"

#: The engine that scores with a version, in words and as the digest of the choice.
ENGINE_TAG = "nightshift.engine"
ENGINE_IDENTITY_TAG = "nightshift.engine_identity"

#: Evaluation of a version. `DECISION_TAG` holds the last decision, of the gate or of a person.
TEST_DIGEST_TAG = "nightshift.test_digest"
ACCURACY_TAG = "nightshift.accuracy"
BEATS_BASELINE_TAG = "nightshift.beats_baseline"
GATE_TAG = "nightshift.gate"
VERDICT_TAG = "nightshift.verdict"
DECISION_TAG = "nightshift.decision"
REPORT_TAG = "nightshift.report"

#: Set on a version that retention has begun to delete.
DELETING_TAG = "nightshift.deleting"

#: Set on an MLflow run: the step, the trial of a sweep, the flow run and the process that own it, and the id of the
#: deleted run that it replaces.
STEP_TAG = "nightshift.step"
TRIAL_TAG = "nightshift.trial"
FLOW_RUN_TAG = "nightshift.flow_run"
PROCESS_TAG = "nightshift.process"
REPLACES_TAG = "nightshift.replaces"

#: Values of `GATE_TAG`.
PASSED, REFUSED = "passed", "refused"
