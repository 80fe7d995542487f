"""What commands print: names of others are shown as they are, and no URL shows its password."""

import ast
import io
import logging
import time

import pytest
from rich.table import Table
from rich.text import Text

from flows.cli import summaries
from tasks.core.errors import MissingDataError, SettingsError
from tasks.core.readable import on_one_line, visible, without_passwords
from tasks.runtime.reporting.logs import ReadableRecord
from tasks.runtime.reporting.terminal import Terminal
from tests.core.test_markdown import EVIL, hostile_summary
from tests.paths import ROOT


def printed(*values: object) -> str:
    stream = io.StringIO()
    terminal = Terminal(file=stream, width=200)
    for value in values:
        terminal.print(value, soft_wrap=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    "evil", [*EVIL, "[bold]x[/]", "[link=http://evil.test]x[/]", ":smile:", "[/]"]
)
def test_a_text_is_shown_as_it_is(evil: str) -> None:
    table = Table(title=evil)
    table.add_column(evil)
    table.add_row(evil)
    assert printed(evil) == f"{visible(evil)}\n"
    shown = printed(table, hostile_summary(evil).errors[0])
    assert "\x1b" not in shown and "\u202e" not in shown
    if "\n" not in evil:
        assert shown.count(visible(evil)) == 4


def test_styles_are_given_apart() -> None:
    stream = io.StringIO()
    terminal = Terminal(file=stream, width=80)
    terminal.print(Text("Ready", style="bold"))
    terminal.print_error(SettingsError("no [field]", "x:smile:"))
    assert stream.getvalue() == "Ready\nerror: SettingsError: no [field] [x:smile:]\n"


def test_an_error_is_one_line() -> None:
    """A key may hold line ends, with which it could forge a second one."""
    stream = io.StringIO()
    key = "x\nReady after 3 s.\x1b[2J\u2028"
    Terminal(file=stream, width=80).print_error(MissingDataError(f"No {key}", key, key))
    shown = r"x\nReady after 3 s.\x1b[2J\u2028"
    assert stream.getvalue() == f"error: MissingDataError: No {shown} [{shown}] -> {shown}\n"
    assert MissingDataError("No", key).where == key, "who asks for the key has it as it is"


@pytest.mark.parametrize("evil", EVIL)
def test_the_summary_of_a_scoring_run_shows_what_there_is(evil: str) -> None:
    stream = io.StringIO()
    summaries.show_scored(Terminal(file=stream, width=200), hostile_summary(evil))
    assert "\x1b" not in stream.getvalue() and "\u202e" not in stream.getvalue()


def test_a_line_of_the_log_cannot_be_forged_or_coloured() -> None:
    key = "a\n12:00 | INFO | all is well\x1b[2J"
    record = ReadableRecord("tasks.x", logging.INFO, "x.py", 1, "%s failed", (key,), None)
    assert record.getMessage() == r"a\n12:00 | INFO | all is well\x1b[2J failed"
    foreign = ReadableRecord("prefect", logging.INFO, "x.py", 1, "two\nlines\x1b", None, None)
    assert foreign.getMessage() == "two\nlines\\x1b"


def test_a_stack_trace_shows_no_password() -> None:
    try:
        raise ValueError("cannot reach http://user:hunter2@host/")
    except ValueError as error:
        given = (type(error), error, error.__traceback__)
    record = ReadableRecord("x", logging.ERROR, "x.py", 1, "at %s", ("s://u:hunter2@h",), given)
    text = logging.Formatter().format(record)
    assert "hunter2" not in text and "cannot reach http://host/" in text and "Traceback" in text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("http://user:secret@host:80/p?q", "http://host:80/p?q"),
        ("postgresql+psycopg2://u:s/e#c?r@e@t@host/db", "postgresql+psycopg2://host/db"),
        ("'http//u:secret@host' is wrong", "'http//host' is wrong"),
        ("http://secret-token@host", "http://host"),
        ("s3://bucket/who@example.com/x", "s3://bucket/who@example.com/x"),
        ("http://host/a b@c", "http://host/a b@c"),
        ("mail joe@example.com", "mail joe@example.com"),
        ("from s3://a/x@y to http://u:secret@h", "from s3://a/x@y to http://h"),
        ("http://u:se'secret@host/x", "http://host/x"),
        ('postgresql://u:se"secret@host', "postgresql://host"),
        ("http://u:s<e>secret@h", "http://h"),
        ("['s3://a','http://u:secret@h']", "['s3://a','http://h']"),
        ("s3://a,http://u:secret@h", "s3://a,http://h"),
        ("s3://a//who@b, s3://a/it's/who@b", "s3://a//who@b, s3://a/it's/who@b"),
    ],
)
def test_user_names_and_passwords_are_taken_out_of_urls(given: str, shown: str) -> None:
    assert without_passwords(given) == shown
    error = SettingsError(given, given, given)
    assert "secret" not in f"{error!s} {error!r} {error.args} {error.what}"


@pytest.mark.parametrize("part", ["/", "s3://", "://x", "@/", "a@//", "//a "])
def test_long_texts_are_looked_through_at_once(part: str) -> None:
    before = time.process_time()
    without_passwords(part * 50_000)
    assert time.process_time() - before < 2


def test_names_of_the_world_stay() -> None:
    for name in ("評論 é.jsonl", "👩\u200d🔬", "\u0645\u06cc\u200c\u062f"):
        assert on_one_line(name) == name


def test_every_command_prints_to_such_a_terminal() -> None:
    for room in ("deployments", "flows", "tasks"):
        for path in sorted((ROOT / room).rglob("*.py")):
            names = {
                alias.name
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.ImportFrom) and node.module == "rich.console"
                for alias in node.names
            }
            allowed = path.name == "terminal.py"
            assert allowed or "Console" not in names, (
                f"{path}: use tasks.runtime.reporting.terminal"
            )
