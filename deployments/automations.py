"""Create, update and delete the automations of automations.yaml on a Prefect server."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound

from deployments.applied import Applied

AUTOMATIONS = Path(__file__).with_name("automations.yaml")


def apply_automations(
    client: SyncPrefectClient, applied: Applied, ids: "ServerIds"
) -> Iterator[str]:
    """Apply all automations that differ from the last applied ones; yield a line for each change."""
    for definition in yaml.safe_load(AUTOMATIONS.read_text(encoding="utf-8")):
        name = definition["name"]
        resolved = ids.resolve(definition)
        if resolved is None:
            if not ids.unwanted:
                applied.keep(f"automation:{name}")
            if ids.missing:
                yield f"WARNING: {name!r} is not set up: {ids.missing}"
            continue
        differs = applied.differs(f"automation:{name}", resolved)
        automation = AutomationCore.model_validate(resolved)
        registered = client.read_automations_by_name(name)
        if not registered:
            client.create_automation(automation)
            yield f"created the automation {name!r}"
        elif differs:
            client.update_automation(
                registered[0].id, automation.model_copy(update={"enabled": registered[0].enabled})
            )
            yield f"updated the automation {name!r}"
    for name in applied.gone("automation:"):
        for obsolete in client.read_automations_by_name(name):
            client.delete_automation(obsolete.id)
            yield f"deleted the automation {name!r}, which is no longer defined"


class ServerIds:
    """Replaces names in a definition by the ids of this server.

    Without a notification block, automations that need one stay as they are; `none` means that they are unwanted.
    """

    def __init__(self, client: SyncPrefectClient, notification_block: str) -> None:
        self._client = client
        self.unwanted = notification_block == "none"
        self.missing = self._block_id = ""
        if notification_block and not self.unwanted:
            self._block_id = self._look_up(notification_block)

    def resolve(self, definition: Any) -> Any:
        """Return the definition with ids; None if it needs a block and none is configured."""
        text = json.dumps(definition)
        if "${notification_block}" in text:
            if not self._block_id:
                return None
            text = text.replace("${notification_block}", self._block_id)
        return json.loads(re.sub(r"\$\{deployment:([^}]+)\}", self._deployment_id, text))

    def _deployment_id(self, match: re.Match[str]) -> str:
        return str(self._client.read_deployment_by_name(match[1]).id)

    def _look_up(self, block: str) -> str:
        kind, _, name = block.partition("/")
        try:
            return str(self._client.read_block_document_by_name(name, kind).id)
        except ObjectNotFound:
            self.missing = (
                f"there is no block {block!r} (NIGHTSHIFT_NOTIFICATION_BLOCK) -> create it in the UI (Blocks; its "
                "type's slug and its name, such as slack-webhook/on-call), and register again: "
                "python -m deployments.apply"
            )
            return ""
