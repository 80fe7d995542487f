"""Protection against CSV injection: a cell that a spreadsheet would run as a formula gets a leading apostrophe.

This follows OWASP's page on CSV injection. It is reversible: a text that looks guarded already gets another apostrophe.
"""

import re
from typing import Any

# Also the full-width forms, which some spreadsheets treat like the ordinary ones.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def guarded(value: Any) -> Any:
    """Return a cell that no spreadsheet runs: a text that begins like a formula gets a leading apostrophe.

    Numbers stay as they are, also those written as text, such as -1.5.
    """
    if not isinstance(value, str) or not _FORMULA.match(value) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}"


def unguarded(text: str) -> str:
    """Return the original text of a guarded cell."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
