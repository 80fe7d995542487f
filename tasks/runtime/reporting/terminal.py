"""The terminal that commands write to: all texts are shown literally.

rich interprets `[bold]` and `:smile:` in texts, and passes escape sequences on. Names of files, keys and labels may
contain both, so neither is interpreted here: bold text is given as a style.
"""

import contextlib
import functools
import io
import os
import sys
from typing import IO, Any

from rich.console import Console, JustifyMethod, OverflowMethod
from rich.text import Text

from tasks.core.readable import said_to_people


def print_whatever_comes() -> None:
    """Print characters that the terminal cannot encode as escapes: libraries print emoji, names may hold anything."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def mute(console: Console) -> None:
    """Silence a console whose reader has gone or whose disk is full. The run goes on.

    By default rich would end the process. The rest of the stream's buffer is discarded, or Python would end with an
    error that it cannot write it.
    """
    console.quiet = True
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, console.file.fileno())
        os.close(nowhere)


def outlive_the_reader(console: object) -> bool:
    """Make another library's console fall silent once nobody reads it. By default rich would end the process.

    Returns:
        True for a console; other objects are left alone.
    """
    if not isinstance(console, Console):
        return False
    console.on_broken_pipe = functools.partial(mute, console)
    return True


class Terminal(Console):
    """A console that prints all text literally, also in tables, where it may be cut or folded."""

    def __init__(
        self, stderr: bool = False, file: IO[str] | None = None, width: int | None = None
    ) -> None:
        super().__init__(
            stderr=stderr, file=file, width=width, highlight=False, markup=False, emoji=False
        )

    def render_str(
        self,
        text: str,
        *,
        style: Any = "",
        justify: JustifyMethod | None = None,
        overflow: OverflowMethod | None = None,
        emoji: bool | None = None,
        markup: bool | None = None,
        highlight: bool | None = None,
        highlighter: Any = None,
    ) -> Text:
        """See `Console.render_str`. Every printed text passes through it."""
        del emoji, markup, highlight, highlighter
        return Text(said_to_people(text), style=style, justify=justify, overflow=overflow)

    def print(self, *objects: Any, **options: Any) -> None:
        """See `Console.print`. If writing fails, the console is silenced."""
        try:
            super().print(*objects, **options)
        except (OSError, UnicodeError):
            mute(self)

    def on_broken_pipe(self) -> None:
        mute(self)

    def print_error(self, error: Exception) -> None:
        """Print an error as one sentence, after its type."""
        self.print("error", style="bold red", end="")
        self.print(f": {type(error).__name__}: {error}", soft_wrap=True)
