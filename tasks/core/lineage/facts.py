"""Facts from the manifest of a prepared folder, in words, for every kind of folder and every age of record.

Only the fields named here are read from a manifest: summaries of some kinds hold texts of reviews, which must not reach
a page or a log. Of kinds unknown here, only numbers are shown.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tasks.core.records import Manifest

Facts = dict[str, str]
# Name under which a verdict keeps the champion it was compared with. It is not a lineage edge: the candidate was not
# made from that champion, and the verdict is no answer to what became of the champion's training data.
COMPARED = "champion"
_OBJECTS = 3  # objects of a source that are named
_PARTS = ("train", "validation", "test")  # in display order


def facts_of(manifest: Manifest) -> tuple[str, Facts]:
    """Return the most important facts as one phrase, and all facts by name, without those an old record lacks."""
    facts = manifest.facts or _facts_of_kind(manifest)
    facts = {name: text for name, text in facts.items() if text}
    brief = ", ".join(facts[name] for name in _BRIEF.get(manifest.kind, ()) if name in facts)
    return brief or "; ".join(f"{k} {v}" for k, v in list(facts.items())[:4]), facts


def _facts_of_kind(manifest: Manifest) -> Facts:
    """Return the facts of a summary that does not describe itself."""
    try:
        return _FACTS.get(manifest.kind, _numbers)(manifest.inputs, manifest.summary)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        # A version of the code with other field formats wrote this record. The folder still exists.
        return {"record": "in a format that this version cannot read"}


def names_of(manifest: Manifest) -> list[str]:
    """Return other names of the folder: the run that trained the model."""
    facts = _mapping(manifest.summary.get("pretraining")) | manifest.summary
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


def objects_of(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return the files or objects of the source of a loaded folder, and the digest or ETag of each."""
    objects: dict[str, str] = {}
    for identity in _mapping(_mapping(inputs).get("sources")).values():
        source = _mapping(identity)
        for name, version in _mapping(source.get("objects")).items():
            objects[name] = f"ETag {version[1]}" if isinstance(version, list) else ""
        for name, digest in _mapping(source.get("files")).items():
            objects[name] = f"sha256 {digest}"
        if "hub" in source:
            objects[str(source["hub"])] = f"commit {source.get('commit', '')}"
    return objects


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def figures(metrics: Any) -> Facts:
    """Return figures with their intervals, by name."""
    return {str(k): _figure(v) for k, v in dict(metrics or {}).items() if _figure(v)}


def _figure(value: Any) -> str:
    if isinstance(value, Mapping) and {"value", "low", "high"} <= value.keys():
        return f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _rows(rows: Any, unit: str = "rows") -> str:
    counted = dict(rows or {})
    named = [s for s in _PARTS if s in counted] + [s for s in counted if s not in _PARTS]
    return ", ".join(f"{split} {counted[split]:,} {unit}" for split in named)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _loaded(inputs: Mapping[str, Any], summary: Mapping[str, Any]) -> Facts:
    objects = objects_of(inputs)
    named = [f"{name} ({version})" for name, version in list(objects.items())[:_OBJECTS]]
    more = [f"and {len(objects) - _OBJECTS:,} more"] if len(objects) > _OBJECTS else []
    return {
        "source": _text(summary.get("source")),
        "rows": _rows(summary.get("rows")),
        "rows that could not be decoded": _rows(summary.get("unreadable")),
        "made of": ", ".join(named + more),
    }


def _validated(_: Mapping[str, Any], summary: Mapping[str, Any]) -> Facts:
    findings = [
        f"{f.get('rule')} in {f.get('split')} ({f.get('count')})" for f in _findings(summary)
    ]
    return {
        "rows": _rows(summary.get("rows")),
        "labels": ", ".join(map(str, summary.get("label_names") or [])),
        "findings": ", ".join(findings) or "none",
    }


def _findings(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(summary.get("findings") or [])


def _split(inputs: Mapping[str, Any], summary: Mapping[str, Any]) -> Facts:
    return {
        "rows": _rows(summary.get("rows")),
        "seed": _text(dict(inputs.get("split") or {}).get("seed")),
        "train digest": _text(summary.get("train_digest")),
        "test digest": _text(summary.get("test_digest")),
    }


def _test_set(_: Mapping[str, Any], summary: Mapping[str, Any]) -> Facts:
    drawn = "drawn from the training reviews" if summary.get("drawn") else "the source's own"
    return {"rows": f"{summary.get('rows')} rows", "origin": drawn}


def _tokens(inputs: Mapping[str, Any], summary: Mapping[str, Any]) -> Facts:
    return {
        "rows": _rows(summary.get("rows")),
        "tokens": _rows(summary.get("tokens"), "tokens"),
        "reviews cut": _rows(summary.get("truncated_rows")),
        "longest": _text(summary.get("max_length_tokens")),
        "tokenizers": _text(inputs.get("tokenizers")),
    }


def _teacher_logits(_: Mapping[str, Any], summary: Mapping[str, Any]) -> Facts:
    return {
        "teacher": _text(summary.get("teacher")),
        "rows": f"{summary.get('rows')} rows",
        "agreement with their labels": _figure(summary.get("agreement")),
    }


def _base_model(_: Mapping[str, Any], summary: Mapping[str, Any]) -> Facts:
    parameters = summary.get("parameters")
    return {
        "name": _text(summary.get("name")),
        "revision": _text(summary.get("revision")),
        "architecture": _text(summary.get("architecture")),
        "parameters": f"{parameters:,} parameters" if isinstance(parameters, int) else "",
    }


def _pretrained_base(inputs: Mapping[str, Any], summary: Mapping[str, Any]) -> Facts:
    done = _mapping(summary.get("pretraining"))
    settings = _mapping(inputs.get("pretraining"))
    losses = [_figure(loss) for loss in done.get("held_out_losses") or []]
    return _base_model(inputs, summary) | {
        "reviews": f"pre-trained on {done['reviews']:,} reviews" if "reviews" in done else "",
        "objective": _text(done.get("objective")),
        "settings": ", ".join(f"{k} {v}" for k, v in settings.items()),
        "held-out loss before, and after each epoch": ", ".join(losses),
        "MLflow run": _text(done.get("mlflow_run_id")),
    }


def _pretraining_tokens(_: Mapping[str, Any], summary: Mapping[str, Any]) -> Facts:
    return {
        "source": _text(summary.get("source")) or "the training reviews alone",
        "reviews": _rows(summary.get("rows"), "reviews"),
        "tokens": _rows(summary.get("tokens"), "tokens"),
        "left out": _rows(summary.get("left_out")),
    }


def _model(inputs: Mapping[str, Any], summary: Mapping[str, Any]) -> Facts:
    training = dict(inputs.get("training") or {})
    chosen = {key: value for key, value in training.items() if key not in ("seed", "base_model")}
    rows = summary.get("train_rows")
    return {
        "base model": _text(summary.get("base_model")),
        "teacher": _text(summary.get("teacher")),
        "rows": f"trained on {rows:,} rows" if isinstance(rows, int) else "",
        "seed": f"seed {training['seed']}" if "seed" in training else "",
        "training parameters": ", ".join(f"{k} {v}" for k, v in chosen.items()),
        "steps": _text(summary.get("steps")),
        "best epoch": _text(summary.get("best_epoch")),
        "trained on": ", ".join(map(str, filter(None, _where(inputs, summary)))),
        "temperature": _figure(summary.get("temperature")),
        "validation": ", ".join(f"{k} {v}" for k, v in figures(summary.get("validation")).items()),
        "MLflow run": _text(summary.get("mlflow_run_id")),
    }


def _where(inputs: Mapping[str, Any], summary: Mapping[str, Any]) -> list[Any]:
    libraries = [f"{name} {inputs[name]}" for name in ("torch", "transformers") if name in inputs]
    return [summary.get("device"), summary.get("precision"), *libraries]


def _evaluation(_: Mapping[str, Any], summary: Mapping[str, Any]) -> Facts:
    rows = summary.get("rows")
    return {
        "of": _text(summary.get("model")),
        "test rows": f"{rows:,} test rows" if isinstance(rows, int) else "",
        "test digest": _text(summary.get("test_digest")),
        **figures(summary.get("metrics")),
        "temperature": _figure(summary.get("temperature")),
    }


def _behaviour(_: Mapping[str, Any], summary: Mapping[str, Any]) -> Facts:
    checks: list[Mapping[str, Any]] = list(summary.get("checks") or [])
    failed = sum(len(check.get("failed_cases") or []) for check in checks)
    cases = sum(int(check.get("cases") or 0) for check in checks)
    return {"checks": f"{len(checks)} checks", "failed": f"{failed:,} of {cases:,} cases failed"}


def _inspection(_: Mapping[str, Any], summary: Mapping[str, Any]) -> Facts:
    near = summary.get("test_rows_near_train")
    return {
        "near-duplicates": "" if near is None else f"{near:,} test rows have one in training",
        "likely label errors": _rows(summary.get("likely_label_errors")),
    }


def _verdict(inputs: Mapping[str, Any], summary: Mapping[str, Any]) -> Facts:
    clauses = clauses_of(summary)
    failed = [name for name, text in clauses.items() if text.startswith("FAILED")]
    promotes = bool(summary.get("promote"))
    decision = (
        "promote" if promotes else f"do not promote ({', '.join(failed) or 'see its clauses'})"
    )
    compared = inputs.get(COMPARED)
    champion = str(compared[0]) if isinstance(compared, list) and compared else "nobody"
    return {"verdict": decision, "compared with": champion, **clauses}


def clauses_of(verdict: Mapping[str, Any]) -> Facts:
    """Return each clause of a verdict: 'passed' or 'FAILED', and its figures."""
    return {
        f"clause {c.get('name')}": f"{'passed' if c.get('passed') else 'FAILED'}: {c.get('text', '')}"
        for c in list(verdict.get("clauses") or [])
    }


def _numbers(_: Mapping[str, Any], summary: Mapping[str, Any]) -> Facts:
    return figures(summary)


_FACTS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Facts]] = {
    "loaded": _loaded,
    "validated": _validated,
    "test-set": _test_set,
    "split": _split,
    "tokens": _tokens,
    "lessons": _teacher_logits,
    "base-model": _base_model,
    "pretraining-tokens": _pretraining_tokens,
    "pretrained-base": _pretrained_base,
    "model": _model,
    "evaluation": _evaluation,
    "behaviour": _behaviour,
    "inspection": _inspection,
    "verdict": _verdict,
}
_BRIEF = {
    "loaded": ("rows",),
    "validated": ("rows",),
    "test-set": ("rows", "origin"),
    "split": ("rows",),
    "tokens": ("tokens",),
    "lessons": ("teacher", "rows"),
    "base-model": ("name", "parameters"),
    "pretraining-tokens": ("reviews", "left out"),
    "pretrained-base": ("name", "reviews"),
    "model": ("base model", "rows", "seed"),
    "evaluation": ("of", "test rows", "accuracy"),
    "behaviour": ("failed", "checks"),
    "inspection": ("near-duplicates", "likely label errors"),
    "verdict": ("verdict",),
}
