"""retention: delete old versions of a model that are no longer needed."""

from flows.forms.flow import form_flow
from flows.forms.registry import RetentionParams
from tasks.registry.retention import (
    Retained,
    Rule,
    delete_versions,
    plan_retention,
    publish_retained,
)
from tasks.runtime.runs.preflight import check_services


@form_flow(RetentionParams, name="retention")
def retention(params: RetentionParams) -> Retained:
    """Decide and explain for every version of a model whether it is kept; delete the others, except in a dry run."""
    check_services()
    rule = Rule(
        model=params.model_name,
        keep_last=params.keep_last,
        min_age_days=params.min_age_days,
        predictions=params.predictions,
    )
    decisions = plan_retention(rule)
    if not params.dry_run:
        decisions = delete_versions(rule, decisions, params.who)
    retained = Retained(rule=rule, decisions=decisions, dry_run=params.dry_run)
    publish_retained(retained)
    return retained
