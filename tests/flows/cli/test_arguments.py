"""What a person at a terminal gets: help, typos, bounds; and the same models as forms."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect.utilities.schema_tools.validation import validate
from pydantic import BaseModel, ValidationError

from flows.cli.arguments import parse
from flows.cli.main import main
from flows.forms.pipelines import RetrainParams, TuneParams
from flows.forms.scoring import ScoreParams
from tasks.core.errors import SettingsError
from tests.paths import ROOT


def fields(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Every leaf of a form, by its dotted name."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= fields(field.annotation, f"{prefix}{name}.")
        else:
            found[prefix + name] = field
    return found


def test_former_names_of_options_are_taken_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    typed = ["--training.warmup_share=0.2", "--training.kept-layers", "3"]
    params = parse("retrain", typed)
    assert (params.training.warmup_ratio, params.training.num_layers) == (0.2, 3)
    assert caplog.messages == [
        "The option --training.warmup-share is now called --training.warmup-ratio",
        "The option --training.kept-layers is now called --training.num-layers",
    ]
    low = ["--sweep.space.warmup-share.low", "0.1", "--sweep.space.warmup_share.high=0.15"]
    assert parse("tune", low).sweep.space.warmup_ratio.high == 0.15
    assert parse("score", ["--max-rejected-share", "0.5"]).max_rejected_fraction == 0.5


def test_removed_options_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    typed = ["--distillation.teacher", "reviews/3", "--distillation.weight=0.5"]
    params = parse("retrain", [*typed, "--training.epochs", "2"])
    assert params.model_dump(exclude_unset=True) == {"training": {"epochs": 2}}
    assert caplog.messages == [
        "The option --distillation.teacher is no longer part of Nightshift, and is left out",
        "The option --distillation.weight is no longer part of Nightshift, and is left out",
    ]
    for wrong in (["--distillation.weight=1", "1"], ["--distillation.teacher", "reviews/3", "1"]):
        with pytest.raises(SettingsError, match="unrecognized arguments: 1"):
            parse("retrain", wrong)
    with pytest.raises(SystemExit):
        parse("retrain", ["--distillation.teacher", "-h"])


@pytest.mark.parametrize("model", [RetrainParams, ScoreParams, TuneParams])
def test_every_field_is_described_bounded_and_in_its_place(model: type[BaseModel]) -> None:
    for name, field in fields(model).items():
        assert field.description, name
        if field.annotation in (int, float, int | None, float | None):
            bounds = {type(m).__name__ for m in field.metadata}
            assert bounds & {"Ge", "Gt"} and bounds & {"Le", "Lt"}, name
    schema = model.model_json_schema()
    for part in [schema, *schema.get("$defs", {}).values()]:
        if "properties" in part:
            positions = [p["position"] for p in part["properties"].values()]
            assert positions == list(range(len(positions)))
            assert part["additionalProperties"] is False
            for name, field in part["properties"].items():
                assert field["title"] == name.replace("_", " ").title(), "what the form shows"


def test_arguments_become_parameters() -> None:
    given = parse(
        "retrain",
        ["--training.epochs", "2", "--data.source.label_names", "no,yes", "--no-gate.promote"],
    )
    assert (given.training.epochs, given.data.source.label_names, given.gate.promote) == (
        2,
        ["no", "yes"],
        False,
    )
    assert parse("score", []) == ScoreParams()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--training.epoch", "2"],
            r"no field --training.epoch \[retrain\] -> did you mean --training.epochs\?",
        ),
        (["--training.epochs", "0"], r"training.epochs: .*greater than or equal to 1, not '0'"),
        (["--training.epochs", "two"], r"training.epochs: .*valid integer.*'two'"),
        (
            ["--training.learning-rate", "1"],
            r"training.learning_rate: .*less than or equal to 0.01",
        ),
        (["--tokenization.truncation", "tail"], r"'head_tail' or 'head'"),
        (["--training.epochs"], "expected one argument"),
    ],
)
def test_a_typo_is_a_sentence(arguments: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse("retrain", arguments)


@pytest.mark.parametrize(
    "typed",
    [
        ["--data.source.label-names", "-1,1"],
        ["--data.source.label-names=-1,1"],
        ["--data.source.label_names", "-1", "--data.source.label_names", "1"],
        ["--Data.Source.Label-Names", "-1.0, +1"],
    ],
)
def test_a_value_may_begin_with_a_hyphen(typed: list[str]) -> None:
    given = parse("retrain", [*typed, "--no-gate.promote"])
    assert given.data.source.label_names == ["-1", "1"] and not given.gate.promote
    with pytest.raises(SettingsError, match=r"greater than or equal to 0, not '-3'"):
        parse("retrain", ["--training.seed", "-3"])


_STARS = "1=NEGATIVE, 2=NEGATIVE, 4=POSITIVE, 5=POSITIVE, 3=-"


@pytest.mark.parametrize(
    "typed",
    [
        ["--data.source.label-map", _STARS],
        [f"--data.source.label-map={_STARS}"],
        ["--data.source.label-map", "{1: NEGATIVE, 2: NEGATIVE, 4: POSITIVE, 5: POSITIVE, 3: -}"],
        ["--data.source.label-map", "1=NEGATIVE, 2=NEGATIVE", "--data.source.label_map", "{4: POSITIVE, 5: POSITIVE}",
         "--data.source.label-map", "3=-"],
    ],
)  # fmt: skip
def test_pairs_are_typed_as_people_write_them(typed: list[str]) -> None:
    assert parse("tune", typed).data.source.label_map == _STARS
    with pytest.raises(SettingsError, match=r"label_map: write pairs such as"):
        parse("retrain", ["--data.source.label-map", "stars"])


@pytest.mark.parametrize(
    "given",
    [
        _STARS,
        {1: "NEGATIVE", 2: "NEGATIVE", 4: "POSITIVE", 5: "POSITIVE", 3: "-"},
        {"1": "NEGATIVE", "2": "NEGATIVE", "4": "POSITIVE", "5": "POSITIVE", "3": None},
    ],
)
def test_pairs_are_a_text_or_a_mapping_in_a_job(given: Any) -> None:
    """As the Prefect API checks parameters against the form's schema, and as the flow takes them."""
    form = {"data": {"source": {"label_map": given}}}
    assert RetrainParams.model_validate(form).data.source.label_map == _STARS
    validate(json.loads(json.dumps(form)), RetrainParams.model_json_schema())
    with pytest.raises(ValidationError, match="put it in quotes"):
        RetrainParams.model_validate({"data": {"source": {"label_map": {"1": False}}}})


def _bounds() -> list[tuple[str, Any]]:
    cases: list[tuple[str, Any]] = []
    for name, field in fields(RetrainParams).items():
        for bound in field.metadata:
            for kind, step in (("ge", -1), ("gt", 0), ("le", 1), ("lt", 0)):
                limit = getattr(bound, kind, None)
                if limit is not None:
                    cases.append((name, limit + step))
    return cases


@pytest.mark.parametrize(("name", "value"), _bounds())
def test_each_bound_is_kept(name: str, value: float) -> None:
    given: dict[str, Any] = {}
    place = given
    *rooms, leaf = name.split(".")
    for room in rooms:
        place = place.setdefault(room, {})
    place[leaf] = value
    with pytest.raises(ValidationError, match=leaf):
        RetrainParams.model_validate(given)


def test_a_recipe_does_not_overrule_what_was_typed() -> None:
    typed = ["--training.epochs", "7", "--engines.cascade", "labels", "--training.frozen_layers=3"]
    given = parse("retrain", ["--recipe", "quick", *typed])
    assert (given.training.epochs, given.engines.cascade, given.training.frozen_layers) == (7, "labels", 3)  # fmt: skip
    for recipe in (["--recipe", "quick"], ["--recipe=quick"]):
        with pytest.raises(
            SettingsError,
            match=r"recipe quick sets engines.cascade to blended, but exact was .*drop the recipe",
        ):
            parse("retrain", ["--engines.cascade", "exact", *recipe])
    spellings = [
        ["--recipe", "quick", "--training.epochs=3"],
        ["--RECIPE", "quick", "--Training.Epochs", "3"],
        ["--recipe", "best", "--recipe", "quick", "--training.epochs", "3"],
        ["--recipe", "quick", "--training", '{"epochs": 3}'],
    ]
    for spelled in spellings:
        with pytest.raises(SettingsError, match=r"sets training.epochs to 2, but 3 was typed"):
            parse("tune", spelled)


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        RetrainParams.model_validate({"training": {"epoch": 2}})


@pytest.mark.parametrize(
    ("arguments", "status", "text"), [(["--help"], 0, "retrain"), (["retain"], 2, "usage")]
)
def test_usage(arguments: list[str], status: int, text: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "flows", *arguments], capture_output=True, text=True, cwd=ROOT
    )
    assert ended.returncode == status and text in ended.stdout + ended.stderr


def test_an_error_at_the_terminal_is_one_sentence_and_no_trace(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "flows", "retrain", "--training.epochs", "0"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (
        ended.returncode == 2
        and ended.stdout == ""
        and ended.stderr.startswith("error: SettingsError: training.epochs")
    )
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("flow", "arguments", "message"),
    [
        ("retrain", ["--location", "x"], "did you mean --data.source.location or --pretraining"),
        ("retrain", ["--training.epoch=2"], r"did you mean --training.epochs\?"),
        ("retrain", ["--no-must-beat-baseline"], r"did you mean --no-gate.must-beat-baseline\?"),
        ("retrain", ["--training", '{"epoch": 2}'], r"did you mean training.epochs\?"),
        ("score", ["--input", "s3:/x"], "'s3:/x' is not of the form s3://bucket/prefix"),
        ("promote", [], "who: it is required; reason: it is required"),
    ],
)
def test_a_wrong_option_is_told_with_one_of_its_kind(
    flow: str, arguments: list[str], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        parse(flow, arguments)


def test_a_flow_that_is_not_there_is_told_with_one_that_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["retrian"]) == 2
    assert "There is no flow 'retrian' -> did you mean retrain?" in capsys.readouterr().err


_HEAVY = {
    "boto3",
    "datasets",
    "mlflow",
    "numpy",
    "optuna",
    "pandas",
    "prefect",
    "pyarrow",
    "scipy",
    "sklearn",
    "torch",
}
_EVERY_FLOW = """
import contextlib, io, sys
from flows.cli.main import _FLOWS, main
statuses = []
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    for flow in set(_FLOWS) - {'demo'}:
        for arguments in (['--help'], ['--no-such-field', '1'], ['--model-name', '']):
            try:
                statuses.append(main([flow, *arguments]))
            except SystemExit as end:
                statuses.append(end.code)
print(sorted(set(statuses)), sorted(set(sys.modules) & set(sys.argv[1:])))
"""


def test_help_and_typing_errors_wait_for_no_library() -> None:
    """They took 5 to 11 s and 575 MB when forms stood beside the code that they are for."""
    given = [sys.executable, "-c", _EVERY_FLOW, *_HEAVY, "transformers"]
    done = subprocess.run(given, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[0, 2] []\n"


_AT_ONCE = ("history", "promote", "rollback", "retention", "trace_prediction", "verify")


def test_flows_that_a_person_waits_for_import_no_torch() -> None:
    code = (
        "import importlib, sys; from tasks.runtime.reporting.logs import log_for_people; log_for_people()\n"
        "for name in sys.argv[1:]: importlib.import_module(f'flows.{name}')\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'sklearn', 'optuna'} & set(sys.modules)))"
    )
    given = [sys.executable, "-c", code, *_AT_ONCE]
    done = subprocess.run(given, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
