"""What was applied to a Prefect server before: digests of definitions, kept in one of its variables."""

import json
from typing import Any

from prefect.variables import Variable

from tasks.core.digests import digest_of

_APPLIED = "nightshift_applied"


class Applied:
    """Digests of the definitions as they were last applied to this server."""

    def __init__(self) -> None:
        found: Any = Variable.get(_APPLIED, default="{}")
        try:
            self._before: dict[str, str] = dict(
                json.loads(found) if isinstance(found, str) else found
            )
        except (ValueError, TypeError):  # somebody has changed it: all is applied again
            self._before = {}
        self.now: dict[str, str] = {}

    def differs(self, name: str, definition: Any) -> bool:
        """Whether a definition is new or another than last time; it is noted as applied."""
        self.now[name] = digest_of({"definition": definition})
        return self._before.get(name) != self.now[name]

    def keep(self, name: str) -> None:
        """Leave as it is what cannot be compared now."""
        if name in self._before:
            self.now[name] = self._before[name]

    def gone(self, kind: str) -> list[str]:
        """Names that were applied once and have no definition any more."""
        left = self._before.keys() - self.now.keys()
        return sorted(name.removeprefix(kind) for name in left if name.startswith(kind))

    def save(self) -> None:
        """Remember, now that all of it is done."""
        if self.now != self._before:
            Variable.set(_APPLIED, json.dumps(self.now), tags=["nightshift"], overwrite=True)
