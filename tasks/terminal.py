"""The terminal that commands write to: texts are shown as they are, whoever wrote them.

rich reads `[bold]` and `:smile:` in texts, and passes escape sequences on. Names of files, keys and labels may hold
both, so that here neither is read: what is to be bold is given as a style.
"""

from typing import IO, Any

from rich.console import Console, JustifyMethod, OverflowMethod
from rich.text import Text

from tasks.core.readable import said_to_people


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

    def print_error(self, error: Exception) -> None:
        """An error as one sentence, with its kind before it."""
        self.print("error", style="bold red", end="")
        self.print(f": {type(error).__name__}: {error}", soft_wrap=True)
