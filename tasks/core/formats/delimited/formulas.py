"""Cells of CSV that a spreadsheet would take for formulas: an apostrophe before them makes them text.

The way of OWASP's page on CSV injection. It can be undone: a text that looks guarded already gets another apostrophe.
"""

import re
from typing import Any

# Also the wide forms, which some spreadsheets take for the narrow ones.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def guarded(value: Any) -> Any:
    """A cell that no spreadsheet runs: a text that begins like a formula, with an apostrophe before it.

    Numbers stay as they are, also those that a file of texts holds, such as -1.5.
    """
    if not isinstance(value, str) or not _FORMULA.match(value) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}"


def unguarded(text: str) -> str:
    """What a guarded cell was."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
