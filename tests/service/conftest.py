"""A service of their own for the tests of one module: `make up` costs a minute, so they share it."""

from collections.abc import Iterator

import pytest

from tasks.connectors.servers.local_stack import passwords_of
from tests.service.stack import Service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The whole service, up; afterwards it is down, and no process of it is left."""
    running = Service(tmp_path_factory.mktemp("service"), OMP_NUM_THREADS="1")
    try:
        said = running.up()
        assert "Ready after" in said and "pool gpu, 1 online" in said
        assert str(passwords_of(running.home)) in said
        yield running
    finally:
        running.down()
        assert running.left_processes() == []
