"""open: open Prefect's page of the running service in the browser, and say where its password is."""

import webbrowser
from pathlib import Path

from tasks.connectors.servers.local_stack import (
    Stack,
    high_availability_home,
    high_availability_passwords_of,
    passwords_of,
    running_stack,
)
from tasks.connectors.servers.passwords import PREFECT_USER
from tasks.core.errors import ServiceError
from tasks.runtime.reporting.terminal import Terminal
from tasks.runtime.settings import read_settings


def open_page(console: Terminal) -> None:
    """Open the page of `make up`, or else of `make up-ha`.

    The password is not part of the address, because browsers and proxies store addresses.

    Raises:
        ServiceError: nothing runs in this folder, its Prefect server is the user's own, or another user's program
            listens there.
    """
    stack, login = _running(read_settings().home)
    if not stack.prefect_url:
        raise ServiceError(
            "The Prefect server is your own, not started by Nightshift",
            "PREFECT_API_URL",
            "open its page yourself",
        )
    stack.require_own_ports()  # the user types the password there
    opened = webbrowser.open(stack.prefect_url)
    console.print(f"{'Opened' if opened else 'Open'} {stack.prefect_url}", soft_wrap=True)
    if stack.asks_for_passwords:
        console.print(f"Log in with {login}.", soft_wrap=True)


def _running(home: Path) -> tuple[Stack, str]:
    """Return the running stack, and the hint for its login page."""
    if stack := running_stack(home):
        return stack, f'the value of "prefect" in {passwords_of(home)}'
    ha = high_availability_home(home)
    if stack := running_stack(ha):
        file = high_availability_passwords_of(ha)
        return stack, f'"{PREFECT_USER}:" followed by the value of "prefect" in {file}'
    raise ServiceError(
        "Nightshift is not running", str(home), "start it with `make up` or `make up-ha`"
    )
