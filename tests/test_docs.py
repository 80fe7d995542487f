"""The documentation says what the code does: settings, rules, flows, commands and links."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

import tasks.core.data.validation
import tasks.runtime.settings
from flows.cli import main as command
from flows.cli.arguments import parse
from tasks.runtime.settings import Settings
from tests.core.formats import bad_inputs as files
from tests.core.formats import bombs
from tests.flows import bad_places as places
from tests.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "deployments").rglob("*.md")),
]
FIRST_SCREEN = "\n".join(README.splitlines()[:40])
TARGETS = set(
    re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
)


def shell(page: Path) -> list[str]:
    """The lines of a page that people are to type."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]


SHELL = shell(ROOT / "README.md")


def table(text: str | None) -> list[str]:
    return [line for line in (text or "").splitlines() if line.startswith("|")]


@pytest.mark.parametrize("module", [tasks.runtime.settings, tasks.core.data.validation])
def test_the_tables_are_those_of_the_code(module: object) -> None:
    assert "\n".join(table(module.__doc__)) in README


def test_every_odd_input_is_in_its_table() -> None:
    page = (ROOT / "docs" / "bad-inputs.md").read_text(encoding="utf-8")
    for case in [*files.CASES, *bombs.BOMBS, *places.CASES]:
        assert f"| {case.title} | " in page, f"{case.title}: make the page again"


def test_every_setting_is_documented() -> None:
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        first = alias.choices[0] if hasattr(alias, "choices") else alias
        assert f"| {first or f'NIGHTSHIFT_{name.upper()}'} " in README


def test_every_rule_that_can_fire_is_documented() -> None:
    code = "".join(
        (ROOT / f"tasks/core/data/{name}.py").read_text(encoding="utf-8")
        for name in ("validation", "usable_rows", "label_map")
    )
    fired = set(re.findall(r'finding\(\s*"?\w+"?, "([a-z ]+)"', code))
    fired |= set(re.findall(r'(?:dropped\[|return |else |rule == |, )"([a-z ]+)"', code))
    fired &= {line.split("|")[1].strip() for line in table(tasks.core.data.validation.__doc__)}
    assert len(fired) == len(table(tasks.core.data.validation.__doc__)) - 2
    assert all(f"| {rule} " in README for rule in fired)


def test_the_first_screen() -> None:
    assert "make demo" in FIRST_SCREEN and "make test" in FIRST_SCREEN
    for room in (
        "flows/",
        "tasks/",
        "tasks/connectors/",
        "tasks/core/",
        "deployments/",
        "tests/",
        "benchmarks/",
    ):
        assert f"`{room}`" in FIRST_SCREEN


def test_make_targets_exist() -> None:
    named = set(re.findall(r"`make (?:[A-Z]+=\S+ )?([a-z-]+)", README))
    for page in PAGES:
        named |= set(re.findall(r"`make ([a-z-]+)`", page.read_text(encoding="utf-8")))
        named |= {line.split()[-1] for line in shell(page) if line.startswith("make ")}
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


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_modules_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        place = page.parent / target.partition("#")[0]
        assert re.match(r"https?://", target) or place.exists(), target
    for module in re.findall(r"python -m ((?:benchmarks|deployments|flows|tests)[\w.]*)", text):
        place = ROOT / module.replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), module


def test_every_promise_has_its_test_and_every_module_of_tests_a_promise() -> None:
    page = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    named = [re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row) for row in rows]
    assert [row for row, tests in zip(rows, named, strict=True) if not tests] == [
        "| Promise | Tests |" for row in rows if row.startswith("| Promise ")
    ]
    for path, name in [test for tests in named for test in tests]:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert not name or re.search(rf"^def {name}\(", text, re.MULTILINE), f"{path}::{name}"
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")}
    assert modules - {path for tests in named for path, _ in tests} == set()


def test_the_deployments_that_are_described_are_those_there_are() -> None:
    page = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `([a-z-]+)` \| `(?:cpu|gpu)` \|", page, re.MULTILINE))
    content = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text(encoding="utf-8"))
    assert described == {entry["name"] for entry in content["deployments"]}
