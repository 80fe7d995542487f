"""Parse a flow's command-line parameters with pydantic-settings, into the models that are also the forms of the UI."""

import logging
import operator
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as CliError

from flows.forms.pipelines import RetrainParams, TuneParams
from flows.forms.recipes import RECIPES
from flows.forms.registry import HistoryParams, PromoteParams, RetentionParams, RollbackParams
from flows.forms.scoring import ScoreParams, TraceParams, VerifyParams
from tasks.core.errors import SettingsError
from tasks.core.forms import field_paths, former_paths, problems_of, suggestions
from tasks.core.parsing.pairs import holds_pairs

logger = logging.getLogger(__name__)


class _Nothing(BaseModel):
    """The demo takes no parameters."""


_MODELS: dict[str, type[BaseModel]] = {
    "demo": _Nothing,
    "retrain": RetrainParams,
    "tune": TuneParams,
    "score": ScoreParams,
    "verify": VerifyParams,
    "trace": TraceParams,
    "promote": PromoteParams,
    "rollback": RollbackParams,
    "history": HistoryParams,
    "retention": RetentionParams,
}


def parse(flow: str, arguments: list[str]) -> Any:
    """Parse the parameters of a flow.

    Args:
        flow: its name, such as retrain.
        arguments: such as ["--training.epochs", "2"]; hyphens and underscores in names are equivalent.
    Raises:
        SettingsError: names each unknown or invalid field, and the value given.
        SystemExit: after --help.
    """
    model = _without_environment(_MODELS[flow])
    see = f"see python -m flows {flow} --help"
    current = _with_current_names([_hyphened(argument) for argument in arguments], _MODELS[flow])
    spelled = _with_values(current, model)
    try:
        # Only the typed values, without the model's defaults.
        typed = CliSettingsSource(
            model, cli_parse_args=spelled, cli_exit_on_error=False, case_sensitive=False
        )()
        recipe = typed.pop("recipe", None)
        params = _MODELS[flow].model_validate(typed)
        return (
            _with_recipe(params, recipe) if isinstance(params, RetrainParams) and recipe else params
        )
    except ValidationError as error:
        raise SettingsError(problems_of(error, form=_MODELS[flow]), flow, see) from error
    except CliError as error:
        raise _unknown_option(spelled, _MODELS[flow], str(error), flow, see) from error


def _unknown_option(
    spelled: list[str], model: type[BaseModel], message: str, flow: str, see: str
) -> SettingsError:
    """Return the error that names the first unknown option, and suggests similar ones."""
    names = [path.replace("_", "-") for path in field_paths(model)]
    typed = [argument[2:].partition("=")[0].lower() for argument in spelled if argument[:2] == "--"]
    groups = {path.rpartition(".")[0] for path in names}
    fields = {*names, *groups, *(_turned_off(path) for path in names), "help"}
    unknown = [name for name in typed if name not in fields]
    if not unknown:
        return SettingsError(message, flow, see)
    wrong = unknown[0]
    near = suggestions(wrong, names)
    off = wrong.rpartition(".")[2].startswith("no-") or wrong.startswith("no-")
    if not near or off:  # a negated switch: --training.no-x is --no-training.x
        near = suggestions(wrong.replace("no-", "", 1), names)
        near = " or ".join(map(_turned_off, near.split(" or "))) if off and near else near
    suggestion = (
        f"did you mean {' or '.join(f'--{name}' for name in near.split(' or '))}? " if near else ""
    )
    return SettingsError(f"There is no field --{wrong}", flow, suggestion + see)


def _turned_off(path: str) -> str:
    return f"no-{path}"


def _with_recipe(typed: RetrainParams, recipe: str) -> RetrainParams:
    """Apply a recipe to the typed values. Raises SettingsError if it would replace a value that was typed.

    A form sends every field, so there a recipe may set a field that has the form's default. A typed value is
    deliberate.
    """
    params = type(typed).model_validate(typed.model_dump(exclude_unset=True) | {"recipe": recipe})
    for group, settings in RECIPES[params.recipe].items():
        typed_group, recipe_group = (operator.attrgetter(group)(one) for one in (typed, params))
        for field in typed_group.model_fields_set & settings.keys():
            typed_value, recipe_value = getattr(typed_group, field), getattr(recipe_group, field)
            if typed_value != recipe_value:
                raise SettingsError(
                    f"The recipe {recipe} sets {group}.{field} to {recipe_value}, but {typed_value} was typed",
                    f"{group}.{field}",
                    f"{typed_value} is the form's default, which leaves the field to the recipe: drop the recipe, "
                    f"and set the fields of {recipe} that you want yourself",
                )
    return params


def _without_environment(model: type[BaseModel]) -> type[BaseSettings]:
    """Make a command line that reads only arguments: a variable named `input` must not change what is scored."""

    class Command(BaseSettings, model):  # pyright: ignore[reportIncompatibleVariableOverride]
        model_config = SettingsConfigDict(
            nested_model_default_partial_update=True,
            cli_hide_none_type=True,
            cli_avoid_json=True,
            cli_implicit_flags=True,
            cli_kebab_case=True,
        )

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings,)

    Command.__name__, Command.__doc__ = model.__name__, model.__doc__
    return Command


def _hyphened(argument: str) -> str:
    """Return an option with hyphens in its name; values stay as they are."""
    option = re.match(r"--[^=]+", argument)
    return argument if not option else option.group().replace("_", "-") + argument[option.end() :]


def _with_current_names(arguments: list[str], model: type[BaseModel]) -> list[str]:
    """Replace former names of options and leave out removed ones, with a warning for each."""
    paths = {
        former.replace("_", "-"): path.replace("_", "-")
        for former, path in former_paths(model).items()
    }
    current: list[str] = []
    lacks_option = False  # this argument would be the value of an option that was left out
    for argument in arguments:
        name, equals, value = argument.partition("=")
        former = name[2:].lower() if name.startswith("--") else ""
        if lacks_option and not re.match(r"--?[A-Za-z]", argument):
            lacks_option = False
            continue
        lacks_option, is_removed = False, False
        for path in (path for path in paths if former == path or former.startswith(f"{path}.")):
            if is_removed := not paths[path]:
                logger.warning(
                    "The option --%s is no longer part of Nightshift, and is left out", former
                )
                lacks_option = not equals
                continue
            renamed = paths[path] + former.removeprefix(path)
            logger.warning("The option --%s is now called --%s", former, renamed)
            argument = f"--{renamed}{equals}{value}"
        if not is_removed:
            current.append(argument)
    return current


def _with_values(arguments: list[str], model: type[BaseModel]) -> list[str]:
    """Join `--name -1,1` to `--name=-1,1`: argparse takes a value that begins with a hyphen for another option."""
    takes_value = set(_options(model)) - set(_options(model, _is_flag))
    pairs = set(_options(model, lambda field: holds_pairs(field.metadata)))
    joined: list[str] = []
    for argument in arguments:
        before = joined[-1].lower() if joined else ""
        is_value = argument.startswith("-") and not re.match(r"--?[A-Za-z]", argument)
        if before in pairs or (is_value and before in takes_value):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return _gathered(joined, pairs)


def _gathered(arguments: list[str], pairs: Collection[str]) -> list[str]:
    """Join repeated pairs of one option: argparse would keep only the last."""
    pairs_of: dict[str, list[str]] = {}
    others: list[str] = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if equals and option.lower() in pairs:
            pairs_of.setdefault(option.lower(), []).append(value)
        else:
            others.append(argument)
    return others + [f"{option}={_as_one(values)}" for option, values in pairs_of.items()]


def _as_one(values: list[str]) -> str:
    """Join pairs, without the braces that each may have."""
    if len(values) == 1:
        return values[0]
    return ", ".join(re.sub(r"^\s*\{(.*)\}\s*$", r"\1", value) for value in values)


def _is_flag(field: FieldInfo) -> bool:
    return field.annotation is bool


def _every(field: FieldInfo) -> bool:
    return True


def _options(
    model: type[BaseModel], is_included: Callable[[FieldInfo], bool] = _every, prefix: str = "--"
) -> Iterator[str]:
    """Yield all options of a model's fields that are wanted."""
    for name, field in model.model_fields.items():
        option = prefix + name.replace("_", "-")
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _options(field.annotation, is_included, f"{option}.")
        elif is_included(field):
            yield option
            if field.annotation is bool:
                yield option.replace("--", "--no-", 1)
