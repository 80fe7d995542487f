"""A service of their own for the tests of one module: `make up` costs a minute, so they share it."""

import time
import urllib.error
from collections.abc import Iterator
from typing import Any

import pytest

from tests.service.stack import Service


class PatientService(Service):
    """Asks again after 503, as Prefect's own client does: by that its server says that SQLite was locked."""

    def api(self, path: str, question: dict[str, Any] | None = None) -> Any:
        for seconds in (0.5, 1, 2, 4):
            try:
                return super().api(path, question)
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise
            time.sleep(seconds)
        return super().api(path, question)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The whole service, up; afterwards it is down, and no process of it is left."""
    running = PatientService(tmp_path_factory.mktemp("service"))
    try:
        running.up()
        yield running
    finally:
        running.down()
        assert running.left_processes() == []
