"""An S3 server on which identities of few rights can be made, as an operator would make them."""

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import boto3

from tasks.connectors.servers.child_process import ChildProcess
from tasks.connectors.servers.seaweedfs import SeaweedFS, free_ports
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import NightshiftError
from tests.service.stack import wait_for

Keys = tuple[str, str]  # access key, secret key


@contextlib.contextmanager
def managed_server(folder: Path) -> Generator[SeaweedFS]:
    """A server with a bucket `nightshift`."""
    program = SeaweedFS(folder, free_ports(1)[0])
    # Off by default: nobody makes accounts on a store that runs for one installation.
    command = [*program.command, "-s3.iam=true", "-s3.iam.readOnly=false"]
    child = ChildProcess(
        "SeaweedFS", command, program.environment, folder / "log", True, program.folder
    )
    try:
        wait_for(lambda: not program.problem(), 60, "the server")
        program.store().make_bucket("nightshift")
        yield program
    finally:
        child.stop()
        program.clean_up()


def identity(
    server: SeaweedFS, name: str, policy: str, holds: Callable[[ObjectStore], object]
) -> Keys:
    """The keys of a new identity.

    Args:
        server: the server.
        name: of the identity.
        policy: what it may do, in JSON.
        holds: does something that it may do; raises until the server has taken the policy in.
    """
    iam: Any = boto3.client(
        "iam",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
    )
    iam.create_user(UserName=name)
    made = iam.create_access_key(UserName=name)["AccessKey"]
    iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=policy)
    keys = made["AccessKeyId"], made["SecretAccessKey"]
    store = ObjectStore(server.endpoint_url, *keys)

    def known() -> bool:
        try:
            return bool(holds(store))
        except NightshiftError:
            return False

    wait_for(known, 30, "the policy to hold")
    return keys
