"""How long a command waits for a server that does not answer: minutes where it works, seconds where a person waits."""

import time

from tasks.core.errors import StoreAwayError
from tasks.runtime.clients import object_store
from tasks.runtime.reporting.terminal import Terminal
from tasks.runtime.settings import read_settings

_PATIENCE_SECONDS = 15.0
_PAUSE_SECONDS = 3.0


def await_object_store(errors: Terminal, gives_up: bool) -> None:
    """Say at once that the object store does not answer.

    Args:
        errors: the terminal for what is wrong.
        gives_up: end the command after seconds. Else it goes on, and its steps are tried again for minutes: a store
            that is started again in the night is no reason to lose the night.
    Raises:
        StoreAwayError: it did not answer in that time.
        SettingsError: its address or boto3's settings are wrong.
    """
    store, bucket = object_store(), read_settings().bucket
    server, ends = store.endpoint_url or "AWS", time.monotonic() + _PATIENCE_SECONDS
    if not (problem := store.silence(bucket)):
        return
    waits = f"for {_PATIENCE_SECONDS:.0f} s" if gives_up else "for minutes"
    errors.print(
        f"The object store {server} does not answer; it is tried again {waits}: {problem}",
        soft_wrap=True,
    )
    while gives_up and problem:
        if time.monotonic() > ends:
            raise StoreAwayError(
                f"The object store does not answer: {problem}",
                server,
                "start it, or correct AWS_ENDPOINT_URL_S3",
            )
        time.sleep(_PAUSE_SECONDS)
        problem = store.silence(bucket)
