"""The documentation says what the code does: settings, rules, flows, commands and links."""

import re
import shlex
from pathlib import Path

import pytest

import tasks.core.validation
import tasks.settings
from flows import __main__ as command
from flows.command_line import parse
from tasks.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST_SCREEN = "\n".join(README.splitlines()[:40])
TARGETS = set(
    re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
)
SHELL = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]


def table(text: str | None) -> list[str]:
    return [line for line in (text or "").splitlines() if line.startswith("|")]


@pytest.mark.parametrize("module", [tasks.settings, tasks.core.validation])
def test_the_tables_are_those_of_the_code(module: object) -> None:
    assert "\n".join(table(module.__doc__)) in README


def test_every_setting_is_documented() -> None:
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        first = alias.choices[0] if hasattr(alias, "choices") else alias
        assert f"| {first or f'NIGHTSHIFT_{name.upper()}'} " in README


def test_every_rule_that_can_fire_is_documented() -> None:
    code = (ROOT / "tasks/core/validation.py").read_text(encoding="utf-8")
    fired = set(re.findall(r'_finding\(\s*"?\w+"?, "([a-z ]+)"', code))
    fired |= set(re.findall(r'dropped\["([a-z ]+)"\]', code))
    assert len(fired) == len(table(tasks.core.validation.__doc__)) - 2
    assert all(f"| {rule} " in README for rule in fired)


def test_the_first_screen() -> None:
    assert "make demo" in FIRST_SCREEN and "make test" in FIRST_SCREEN
    for room in (
        "flows/",
        "tasks/*.py",
        "tasks/connectors/",
        "tasks/core/",
        "deployments/",
        "tests/",
    ):
        assert f"`{room}`" in FIRST_SCREEN


def test_make_targets_exist() -> None:
    named = set(re.findall(r"`make (?:[A-Z]+=\S+ )?([a-z-]+)", README))
    named |= {line.split()[-1] for line in SHELL if line.startswith("make")}
    assert {"demo", "test", "check", "test-all", "bench", "format", "clean"} <= named <= TARGETS


def test_every_flow_is_described() -> None:
    for flow in re.findall(r"^  (\w+)  ", command._USAGE, re.MULTILINE):
        assert f"**`{flow}`**" in README


def test_commands_parse() -> None:
    commands = [shlex.split(line) for line in SHELL if "-m flows" in line]
    assert len(commands) >= 2
    for _, _, _, flow, *arguments in commands:
        if "--help" in arguments:
            with pytest.raises(SystemExit):
                parse(flow, arguments)
        else:
            parse(flow, arguments)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists()
