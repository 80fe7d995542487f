"""Facts from the manifest of a prepared folder, in words: each kind's summary describes itself.

Of kinds that are not listed here only figures are shown: summaries may hold texts of reviews, which must not reach a
page or a log.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from tasks.core.readable import figures
from tasks.core.records import Facts, Manifest, Summary

#: Kinds of folders, and the class of their summaries as "module:Class". They are imported when one is read.
_SUMMARIES = {
    "loaded": "tasks.core.records:LoadedSummary",
    "validated": "tasks.core.records:ValidatedSummary",
    "test-set": "tasks.core.records:HeldOutSummary",
    "split": "tasks.core.records:SplitSummary",
    "inspection": "tasks.core.quality.records:InspectionSummary",
    "tokens": "tasks.core.training.records:TokensSummary",
    "lessons": "tasks.core.training.records:TeacherLogitsSummary",
    "base-model": "tasks.core.training.records:BaseModelSummary",
    "pretraining-tokens": "tasks.core.training.records:PretrainingTokensSummary",
    "pretrained-base": "tasks.core.training.records:BaseModelSummary",
    "model": "tasks.core.training.records:TrainingSummary",
    "evaluation": "tasks.core.evaluation.records:EvaluationSummary",
    "behaviour": "tasks.core.evaluation.behaviour.results:BehaviourResult",
    "verdict": "tasks.core.release.gate.evidence:Verdict",
}


def facts_of(manifest: Manifest) -> tuple[str, Facts]:
    """Return the most important facts as one phrase, and all facts by name."""
    facts, names = _described(manifest)
    facts = {name: text for name, text in facts.items() if text}
    brief = ", ".join(facts[name] for name in names if name in facts)
    return brief or "; ".join(f"{k} {v}" for k, v in list(facts.items())[:4]), facts


def _described(manifest: Manifest) -> tuple[Facts, tuple[str, ...]]:
    """Return the facts of a manifest, and the names of those in its short description."""
    if manifest.kind not in _SUMMARIES:
        return figures(manifest.summary), ()
    module, _, name = _SUMMARIES[manifest.kind].partition(":")
    kind: type[Summary] = getattr(import_module(module), name)
    try:
        summary = kind.model_validate(manifest.summary)
    except ValidationError:  # another version of the code wrote it; the folder still exists
        return {"record": "in a format that this version cannot read"}, ()
    return summary.facts(manifest.inputs), kind.brief


def names_of(manifest: Manifest) -> list[str]:
    """Return other names of the folder: the run that trained the model."""
    pretraining = manifest.summary.get("pretraining")
    facts = {**(pretraining if isinstance(pretraining, Mapping) else {}), **manifest.summary}
    return [run] if (run := str(facts.get("mlflow_run_id", ""))) else []


def inputs_of(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text among a manifest's inputs, with the name of its field."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from inputs_of(inner, str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from inputs_of(inner, name)
