"""Which engine suits a model on this machine: all that are installed are built, compared and timed, and one is chosen.

Each engine answers the same texts, and is compared with what torch answers in fp32. The fastest of those that are
shown to agree with it is chosen, and a cascade by its accuracy where that is asked for; torch in fp32 where that is
shown of nothing else. What was found is engines.json beside the model's config.json, and what the chosen engine needs
lies in engines/ below it.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from tasks.core.engines import registry
from tasks.core.engines.params import EngineChoiceParams
from tasks.core.engines.selection.benchmark import Builder, Contest, build_here
from tasks.core.engines.selection.records import EngineChoice
from tasks.core.engines.selection.texts import Ids, JudgedTexts, TokenRows
from tasks.core.engines.selection.timing import Clock


def worth_measuring(params: EngineChoiceParams) -> bool:
    """Whether there is anything to choose from."""
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
    """Build, compare and time engines of a model, and write down which is best.

    Args:
        model: folder that `modeling.save` wrote; engines/ and engines.json are added to it.
        validation: rows of realistic lengths that the model was not trained on.
        train: rows to calibrate int8 on, and to fit the linear stage of a cascade; compared on where others are few.
        params: what is compared, and what counts as the same.
        clock: seconds, rising.
        machine: what it was measured on, to be written down.
        build: how an engine is built; see `build_here`.
        scored: rows of reviews that were scored before, whose labels nobody needs; compared on first.
    """
    by_accuracy = not params.keeps_labels
    texts = JudgedTexts.gathered(scored, validation, train, params.judged_rows, by_accuracy)
    if not worth_measuring(params) or not len(texts):
        choice = EngineChoice(chosen=registry.TORCH, machine=dict(machine))
    else:
        contest = Contest(model, texts, train, params, build)
        choice = contest.outcome(clock, machine)
        if params.keep == "chosen":
            _keep_only(model, _needed(choice))
    content = choice.model_dump_json(indent=2) + "\n"
    (model / registry.CHOICE).write_text(content, encoding="utf-8")
    return choice


def _needed(choice: EngineChoice) -> set[str]:
    """Which folders of engines the chosen one reads."""
    stages = choice.cascade.stages if choice.cascade else ()
    return {choice.chosen, *(Path(stage.folder).name for stage in stages)}


def _keep_only(model: Path, names: set[str]) -> None:
    folder = model / registry.FOLDER
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in names:
            shutil.rmtree(path)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
