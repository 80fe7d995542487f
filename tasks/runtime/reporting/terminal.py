"""The terminal that commands write to: texts are shown as they are, whoever wrote them.

rich reads `[bold]` and `:smile:` in texts, and passes escape sequences on. Names of files, keys and labels may hold
both, so that here neither is read: what is to be bold is given as a style.
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
    """Show signs that the terminal's encoding lacks as escapes: libraries print emoji, and a name may hold anything."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def mute(console: Console) -> None:
    """Have a console print nothing any more: who read it has gone, or its disk is full. The run goes on.

    rich itself ends the process then. What is left in the stream's buffer goes nowhere, or Python would end with an
    error that it cannot write it.
    """
    console.quiet = True
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, console.file.fileno())
        os.close(nowhere)


def outlive_the_reader(console: object) -> bool:
    """Have a console of somebody else's print nothing any more once nobody reads it: rich ends the process then.

    Returns:
        True for a console; nothing is done with anything else.
    """
    if not isinstance(console, Console):
        return False
    console.on_broken_pipe = functools.partial(mute, console)
    return True


class Terminal(Console):
    """A console for which a text is only text; also in tables, where it may be cut or folded."""

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
        """See `Console.render_str`: every text that is printed passes here."""
        del emoji, markup, highlight, highlighter
        return Text(said_to_people(text), style=style, justify=justify, overflow=overflow)

    def print(self, *objects: Any, **given: Any) -> None:
        """See `Console.print`. Where nothing can be written any more, nothing is."""
        try:
            super().print(*objects, **given)
        except (OSError, UnicodeError):
            mute(self)

    def on_broken_pipe(self) -> None:
        mute(self)

    def print_error(self, error: Exception) -> None:
        """An error as one sentence, with its kind before it."""
        self.print("error", style="bold red", end="")
        self.print(f": {type(error).__name__}: {error}", soft_wrap=True)
