"""Choose a model's engine on this machine: build, compare and time the installed ones.

Each engine answers the same texts, and is compared with torch in fp32. The fastest engine that is shown to agree is
chosen, or a cascade by its accuracy if the settings ask for that. If no engine is shown to agree, torch in fp32 is
chosen. The results are engines.json beside the model's config.json; the chosen engine's files are in engines/ there.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from tasks.core.engines import registry
from tasks.core.engines.params import EngineChoiceParams
from tasks.core.engines.selection.benchmark import Builder, EngineBenchmark, build_here
from tasks.core.engines.selection.records import EngineChoice
from tasks.core.engines.selection.texts import Ids, JudgedTexts, TokenRows
from tasks.core.engines.selection.timing import Clock


def worth_measuring(params: EngineChoiceParams) -> bool:
    """True if measuring is on and an engine other than torch is available."""
    return params.measure and any(
        n != registry.TORCH for n in params.candidates if registry.available(n)
    )


def choose(
    model: Path,
    validation: TokenRows,
    train: TokenRows,
    params: EngineChoiceParams,
    clock: Clock,
    machine: Mapping[str, str],
    build: Builder = build_here,
    scored: Ids = (),
) -> EngineChoice:
    """Build, compare and time a model's engines, and record the best one.

    Args:
        model: folder that `classifier.save` wrote; engines/ and engines.json are added to it.
        validation: rows of realistic lengths that the model was not trained on.
        train: rows to calibrate int8 and fit the linear stage of a cascade; also compared on if others are few.
        params: the candidates and the criteria of agreement.
        clock: a monotonic clock in seconds.
        machine: a description of this machine, for the record.
        build: builds an engine; see `build_here`.
        scored: rows of reviews that were scored before, compared on first; they need no labels.
    """
    by_accuracy = not params.keeps_labels
    texts = JudgedTexts.gathered(scored, validation, train, params.judged_rows, by_accuracy)
    if not worth_measuring(params) or not len(texts):
        choice = EngineChoice(chosen=registry.TORCH, machine=dict(machine))
    else:
        benchmark = EngineBenchmark(model, texts, train, params, build)
        choice = benchmark.outcome(clock, machine)
        if params.keep == "chosen":
            _keep_only(model, _needed(choice))
    content = choice.model_dump_json(indent=2) + "\n"
    (model / registry.CHOICE).write_text(content, encoding="utf-8")
    return choice


def _needed(choice: EngineChoice) -> set[str]:
    """Return the names of the engine folders that the chosen engine reads."""
    stages = choice.cascade.stages if choice.cascade else ()
    return {choice.chosen, *(Path(stage.folder).name for stage in stages)}


def _keep_only(model: Path, names: set[str]) -> None:
    folder = model / registry.FOLDER
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in names:
            shutil.rmtree(path)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
