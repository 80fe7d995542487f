"""An error names a field, an option or a setting only where there is one."""

import ast
import re
from collections.abc import Iterator

import pytest

from flows.cli.arguments import _MODELS
from flows.forms.pipelines import RetrainParams
from tasks.core.data.validation import Validated
from tasks.core.errors import ValidationError
from tasks.core.forms import field_paths
from tasks.core.records import Finding
from tasks.runtime.settings import Settings
from tests.paths import ROOT

SOURCES = sorted(p for room in ("flows", "tasks") for p in (ROOT / room).rglob("*.py"))
_GROUPS = "|".join(RetrainParams.model_fields)
_FIELD = re.compile(rf"(?<![\w./-])(?:{_GROUPS})(?:\.[a-z][a-z_]*)+(?![\w/-])")
_FILES = (".json", ".md", ".py", ".csv", ".yaml")
_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]*(?:\.[a-z][a-z-]*)+)")
_SETTING = re.compile(r"NIGHTSHIFT_[A-Z0-9_]+")


def texts() -> Iterator[tuple[str, str]]:
    """Every text in the code that a person may be shown: all but docstrings."""
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or id(node) in alone:
                continue
            if isinstance(node.value, str):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def test_fields_options_and_settings_that_are_named_exist() -> None:
    paths = {path for model in _MODELS.values() for path in field_paths(model)}
    groups = {path.rsplit(".", n)[0] for path in paths for n in range(1, path.count(".") + 1)}
    settings = {f"NIGHTSHIFT_{name.upper()}" for name in Settings.model_fields}
    wrong: list[str] = []
    for where, text in texts():
        fields = {f for f in _FIELD.findall(text) if not f.endswith(_FILES)}
        fields |= {option.replace("-", "_") for option in _OPTION.findall(text)}
        known = paths | groups
        wrong += [f"{where}: {f}" for f in fields if f.replace("no_", "", 1) not in known]
        wrong += [f"{where}: {s}" for s in _SETTING.findall(text) if s.rstrip("_") not in settings]
    assert wrong == [], "\n".join(wrong)


@pytest.mark.parametrize(
    ("rule", "field"),
    [("few rows", "min_rows_a_class"), ("imbalance", "max_imbalance"), ("one class", ""),
     ("empty", ""), ("unknown label", ""), ("missing text", "max_unusable_fraction")],
)  # fmt: skip
def test_a_rule_is_relaxed_only_where_a_field_does(rule: str, field: str) -> None:
    found = Finding(severity="error", rule=rule, split="train", count=1, message="it is so")
    with pytest.raises(ValidationError) as caught:
        Validated(["a"], {}, [found], {}).raise_errors()
    named = f"fix the data, or change data.validation.{field}" if field else "fix the data;"
    assert caught.value.fix.startswith(named), caught.value.fix
