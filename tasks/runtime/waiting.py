"""Waiting for a server that does not answer: minutes for an unattended command, seconds if a person waits."""

import time

from tasks.core.errors import StoreUnavailableError
from tasks.runtime.clients import object_store
from tasks.runtime.reporting.terminal import Terminal
from tasks.runtime.settings import read_settings

_PATIENCE_SECONDS = 15.0
_PAUSE_SECONDS = 3.0


def await_object_store(errors: Terminal, gives_up: bool) -> None:
    """Check that the object store answers, and report at once if it does not.

    Args:
        errors: the terminal for errors.
        gives_up: end the command after seconds. Otherwise it goes on and its steps are retried for minutes, so that a
            run in the night survives a restart of the store.
    Raises:
        StoreUnavailableError: the store did not answer in that time.
        SettingsError: its address or boto3's settings are wrong.
    """
    store, bucket = object_store(), read_settings().bucket
    server, ends = store.endpoint_url or "AWS", time.monotonic() + _PATIENCE_SECONDS
    if not (problem := store.unreachable_reason(bucket)):
        return
    waits = f"for {_PATIENCE_SECONDS:.0f} s" if gives_up else "for several minutes"
    errors.print(
        f"The object store {server} does not answer; trying again {waits}: {problem}",
        soft_wrap=True,
    )
    while gives_up and problem:
        if time.monotonic() > ends:
            raise StoreUnavailableError(
                f"The object store does not answer: {problem}",
                server,
                "start it, or correct AWS_ENDPOINT_URL_S3",
            )
        time.sleep(_PAUSE_SECONDS)
        problem = store.unreachable_reason(bucket)
