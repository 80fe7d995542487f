"""open: Prefect's page of the running service in the browser, and where the password for it lies."""

import webbrowser

from tasks.connectors.local_stack import passwords_of, running_stack
from tasks.core.errors import ServiceError
from tasks.settings import read_settings
from tasks.terminal import Terminal


def open_page(console: Terminal) -> None:
    """Open the page. Its password is in no address, as browsers and proxies keep those.

    Raises:
        ServiceError: nothing is up on this folder, or its Prefect server is one of the user's own.
    """
    home = read_settings().home.expanduser().absolute()
    stack = running_stack(home)
    if stack is None:
        raise ServiceError("Nightshift is not up", str(home), "`make up` starts it")
    if not stack.prefect_url:
        raise ServiceError(
            "The Prefect server is one of yours", "PREFECT_API_URL", "open its page yourself"
        )
    stack.require_own_ports()  # the password is typed there
    opened = webbrowser.open(stack.prefect_url)
    console.print(f"{'Opened' if opened else 'Open'} {stack.prefect_url}", soft_wrap=True)
    if stack.asks_for_passwords:
        file = passwords_of(home)
        console.print(
            f'It asks for a password: what {file} has as "prefect", as it stands.',
            soft_wrap=True,
        )
