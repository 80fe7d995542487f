"""The object store lets in nobody but holders of its keys, on whichever port; and goes on with data of before."""

import http.client
import os
import socket
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
import yaml
from botocore.exceptions import ClientError
from cryptography import x509

from tasks.connectors.servers.certificates import secure_store
from tasks.connectors.servers.child_process import ChildProcess
from tasks.connectors.servers.local_servers import LocalObjectStore
from tasks.connectors.servers.seaweedfs import HOST, SeaweedFS, free_ports
from tests.connectors.servers.test_local_servers import wait_for
from tests.paths import ROOT

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PATHS = ["/", "/status", "/dir/status", "/metrics", "/debug/pprof/", "/buckets/nightshift/kept"]
DELETE_BUCKET = "/col/delete?collection=nightshift"
NAMES = ["s3.grpc", "master", "master.grpc", "volume", "volume.grpc"]
NAMES += ["filer", "filer.grpc", "admin", "admin.grpc"]
LARGE = os.urandom(20_000_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    store = LocalObjectStore(tmp_path_factory.mktemp("closed"))
    store.store().make_bucket("nightshift")
    store.store().write_bytes(b"kept", "s3://nightshift/kept")
    yield store._program
    store.stop()


def client(server: SeaweedFS | LocalObjectStore) -> Any:
    keys = {"aws_access_key_id": server.access_key, "aws_secret_access_key": server.secret_key}
    return boto3.client("s3", endpoint_url=server.endpoint_url, region_name="us-east-1", **keys)


def ports(server: SeaweedFS) -> dict[str, int]:
    return dict(zip(NAMES, server._ports, strict=True))


def answer(port: int, path: str, context: ssl.SSLContext | None = None) -> tuple[int, str]:
    """Status and text; 0 and the error where there is no answer."""
    kind = http.client.HTTPSConnection if context else http.client.HTTPConnection
    options: dict[str, Any] = {"context": context} if context else {}
    connection = kind(HOST, port, timeout=10, **options)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)
    finally:
        connection.close()


def grpc_answers(port: int) -> bool:
    """True where an HTTP/2 server greets whoever comes, without TLS."""
    with socket.create_connection((HOST, port), timeout=10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        try:
            greeting = connection.recv(9)
        except ConnectionResetError:
            return False
    return len(greeting) == 9 and greeting[3] == 4  # a SETTINGS frame


def weed(server: SeaweedFS, home: Path, lines: str) -> str:
    """What SeaweedFS's own shell answers to somebody with this home."""
    at = ports(server)
    command = [server.command[0], f"-logdir={home}", "shell"]
    command += [f"-master={HOST}:{at['master']}.{at['master.grpc']}"]
    command += [f"-filer={HOST}:{at['filer']}.{at['filer.grpc']}"]
    try:
        done = subprocess.run(
            command,
            input=lines,
            env={"HOME": str(home)},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=8,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return (error.stdout or b"").decode()  # it goes on trying
    return done.stdout


def test_every_inner_port_turns_away_who_has_no_certificate(server: SeaweedFS) -> None:
    wait_for(lambda: not _refused(ports(server)["admin"]))  # the last to come
    _require_closed(server)
    assert server.store().read_bytes("s3://nightshift/kept") == b"kept"


def _require_closed(server: SeaweedFS) -> None:
    nobody = ssl._create_unverified_context()
    refusal = (400, "Client sent an HTTP request to an HTTPS server.\n")
    for name, port in ports(server).items():
        for path in [*PATHS, DELETE_BUCKET]:
            plain, secured = answer(port, path), answer(port, path, nobody)
            assert plain == refusal or plain[0] == 0, (name, path, plain)
            assert secured[0] == 0, (name, path, secured)
        assert not grpc_answers(port), name


def _refused(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex((HOST, port)) != 0


def test_it_listens_nowhere_else(server: SeaweedFS) -> None:
    (process,) = (
        p
        for p in psutil.process_iter(["cmdline"])
        if f"-dir={server.folder / 'data'}" in (p.info["cmdline"] or []) and p.name() == "weed"
    )
    listening = {c.laddr for c in process.net_connections("inet") if c.status == "LISTEN"}
    s3 = int(server.endpoint_url.rpartition(":")[2])
    assert {address.ip for address in listening} == {HOST}
    assert {address.port for address in listening} <= {s3, *server._ports}
    assert not [c for c in process.net_connections("inet") if c.type == socket.SOCK_DGRAM]
    sockets = [Path(c.laddr) for c in process.net_connections("unix") if c.laddr]
    assert sockets and all(not path.stat().st_mode & 0o022 for path in sockets)


def test_its_own_tools_need_the_owners_files(server: SeaweedFS, tmp_path: Path) -> None:
    asked = "s3.bucket.list\n"
    assert "nightshift" not in weed(server, tmp_path, asked)
    assert "nightshift" in weed(server, server.folder, asked)


def test_the_s3_port_knows_keys_alone(server: SeaweedFS) -> None:
    port = int(server.endpoint_url.rpartition(":")[2])
    for path in [p for p in PATHS if p != "/status"] + [DELETE_BUCKET]:
        assert answer(port, path)[0] == 403, path
    assert answer(port, "/status") == (200, "") and answer(port, "/healthz") == (200, "")
    # Neither accounts nor tokens are made there.
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    connection.request("POST", "/", "Action=AssumeRoleWithWebIdentity&Version=2011-06-15")
    assert connection.getresponse().status == 405
    connection.close()


def test_no_page_of_another_origin_reads_the_store(server: SeaweedFS) -> None:
    connection = http.client.HTTPConnection(HOST, int(server.endpoint_url.rpartition(":")[2]))
    asked = {"Origin": "http://elsewhere.example", "Access-Control-Request-Method": "PUT"}
    for method in ("OPTIONS", "GET"):
        connection.request(method, "/nightshift/kept", headers=asked)
        response = connection.getresponse()
        response.read()
        assert response.status == 403
        assert response.getheader("Access-Control-Allow-Origin") is None
    connection.close()


def test_a_server_without_certificates_is_no_good(tmp_path: Path) -> None:
    """SeaweedFS starts open to all when it cannot read them."""
    server = SeaweedFS(tmp_path, free_ports(1)[0])
    command = [word for word in server.command if not word.startswith("-config_dir")]
    environment = {**server.environment, "HOME": "/nonexistent"}
    child = ChildProcess("SeaweedFS", command, environment, tmp_path / "log", True, tmp_path)
    try:
        assert wait_for(lambda: "without a certificate" in server.problem(), 30)
        assert grpc_answers(ports(server)["filer.grpc"])  # the question is one that can be answered
        assert answer(ports(server)["master"], DELETE_BUCKET)[1] == (
            '{"error":"collection nightshift does not exist"}'
        )
    finally:
        child.stop()
        server.clean_up()


def test_a_security_file_of_the_current_folder_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "security.toml").write_text("")
    (tmp_path / "here" / "filer.toml").write_text("[redis2]\nenabled = true\n")
    monkeypatch.chdir(tmp_path / "here")
    store = LocalObjectStore(tmp_path / "store")
    try:
        assert store._program.problem() == ""
    finally:
        store.stop()
    assert sorted(p.name for p in Path.cwd().iterdir()) == ["filer.toml", "security.toml"]


def test_the_store_of_compose_turns_away_who_has_no_certificate(tmp_path: Path) -> None:
    """As a plain process of this machine, by the commands of the compose file."""
    services = yaml.safe_load((ROOT / "deployments/compose.yaml").read_text())["services"]
    _, *making = services["seaweedfs-certificates"]["command"]
    making = [str(tmp_path / "keys") if word.startswith("/home") else word for word in making]
    subprocess.run([sys.executable, *making, "localhost"], cwd=ROOT, check=True)
    new = SeaweedFS(tmp_path / "s3", free_ports(1)[0])
    names = {f"-{name.replace('.grpc', '.port.grpc')}": port for name, port in ports(new).items()}
    names = {k if k.endswith("grpc") else f"{k}.port": port for k, port in names.items()}
    given = {f"{name}=": str(port) for name, port in names.items()} | {
        "-s3.port=": new.endpoint_url.rpartition(":")[2],
        "-dir=": str(tmp_path / "data"),
        "-config_dir=": str(tmp_path / "keys"),
        "-ip=": "localhost",
        "-ip.bind=": HOST,
    }
    command = [new.command[0]]
    for word in services["seaweedfs"]["command"][1:]:
        name = word[: word.find("=") + 1]
        command.append(name + given.pop(name) if name in given else word)
    assert not given
    (tmp_path / "data").mkdir()
    child = ChildProcess("SeaweedFS", command, new.environment, tmp_path / "log", True, tmp_path)
    try:
        assert wait_for(lambda: not _refused(ports(new)["admin"]), 30)
        _require_closed(new)
        assert wait_for(lambda: {"nightshift", "mlflow"} <= _buckets(new))
    finally:
        child.stop()
        new.clean_up()


def _buckets(server: SeaweedFS) -> set[str]:
    return {bucket["Name"] for bucket in client(server).list_buckets()["Buckets"]}


def written(s3: Any) -> dict[str, bytes]:
    """Objects of all kinds, and what is in them."""
    s3.create_bucket(Bucket="nightshift")
    kept = {f"small/{i}": os.urandom(100 * i) for i in range(20)} | {"large": LARGE}
    for key, content in kept.items():
        s3.put_object(Bucket="nightshift", Key=key, Body=content)
    at = {"Bucket": "nightshift", "Key": "parts"}
    upload = s3.create_multipart_upload(**at)["UploadId"]
    sent = [
        s3.upload_part(**at, UploadId=upload, PartNumber=i, Body=LARGE[: 6_000_000 * i])["ETag"]
        for i in (1, 2)
    ]
    parts = [{"ETag": tag, "PartNumber": i} for i, tag in enumerate(sent, 1)]
    s3.complete_multipart_upload(**at, UploadId=upload, MultipartUpload={"Parts": parts})
    return kept | {"parts": LARGE[:6_000_000] + LARGE[:12_000_000]}


def read(s3: Any, keys: dict[str, bytes]) -> dict[str, bytes]:
    return {key: s3.get_object(Bucket="nightshift", Key=key)["Body"].read() for key in keys}


def test_objects_of_all_kinds_and_a_restart(tmp_path: Path) -> None:
    first = LocalObjectStore(tmp_path)
    try:
        s3 = client(first)
        kept = written(s3)
        assert read(s3, kept) == kept
        span = s3.get_object(Bucket="nightshift", Key="large", Range="bytes=9999990-10000009")
        assert span["Body"].read() == LARGE[9_999_990:10_000_010]
        with pytest.raises(ClientError, match="PreconditionFailed"):
            s3.put_object(Bucket="nightshift", Key="large", Body=b"", IfNoneMatch="*")
    finally:
        first.stop()
    second = LocalObjectStore(tmp_path)
    try:
        assert read(client(second), kept) == kept
    finally:
        second.stop()


def test_a_home_made_before_there_were_certificates_goes_on(tmp_path: Path) -> None:
    """Made by the command line of then, in the folder that everybody could read."""
    before = SeaweedFS(tmp_path, free_ports(1)[0])
    for file in before._security.iterdir():
        file.unlink()
    before._security.rmdir()
    tmp_path.chmod(0o755)
    new = ("-config_dir", "-logdir", "-log_max_size", "-s3.iam", "-s3.allowedOrigins")
    command = [word for word in before.command if not word.startswith(new)]
    child = ChildProcess("SeaweedFS", command, before.environment, tmp_path / "log", True)
    try:
        assert wait_for(lambda: _answers(before), 30)
        assert answer(ports(before)["master"], "/dir/status")[0] == 200
        kept = written(client(before))
    finally:
        child.stop()
    store = LocalObjectStore(tmp_path)
    try:
        assert store._program.problem() == "" and store.secret_key == before.secret_key
        assert read(client(store), kept) == kept
        assert tmp_path.stat().st_mode & 0o777 == 0o700
    finally:
        store.stop()


def _answers(server: SeaweedFS) -> bool:
    return answer(int(server.endpoint_url.rpartition(":")[2]), "/healthz")[0] == 200


# --- certificates


def made(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_certificates_hold_ten_years_and_their_files_are_the_owners(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    secure_store(folder, NOW, ["store"])
    certificate = x509.load_pem_x509_certificate((folder / "store.pem").read_bytes())
    assert certificate.not_valid_after_utc - NOW == timedelta(days=3650)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "store"]
    assert b"PRIVATE" not in (folder / "ca.pem").read_bytes()  # nobody can make another


@pytest.mark.parametrize(
    ("days", "renewed"),
    [(0, False), (3650 - 366, False), (3650 - 364, True), (4000, True), (-2, True)],
)
def test_certificates_are_made_anew_where_less_than_a_year_is_left(
    tmp_path: Path, days: int, renewed: bool
) -> None:
    secure_store(tmp_path, NOW)
    before = made(tmp_path)
    secure_store(tmp_path, NOW + timedelta(days=days))
    after = made(tmp_path)
    assert (after["store.pem"] != before["store.pem"]) == renewed
    assert (after["ca.pem"] != before["ca.pem"]) == renewed
    assert (after["store.key"] != before["store.key"]) == renewed


def lose(path: Path, other: Path) -> None:
    path.unlink()


def spoil(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def exchange(path: Path, other: Path) -> None:
    path.write_bytes((other / path.name).read_bytes())


@pytest.mark.parametrize("name", ["ca.pem", "store.pem", "store.key"])
@pytest.mark.parametrize("harm", [lose, spoil, exchange])
def test_a_set_that_does_not_belong_together_is_made_anew(
    tmp_path: Path, name: str, harm: Callable[[Path, Path], None]
) -> None:
    secure_store(tmp_path / "other", NOW)
    secure_store(tmp_path / "keys", NOW)
    before = made(tmp_path / "keys")
    harm(tmp_path / "keys" / name, tmp_path / "other")
    secure_store(tmp_path / "keys", NOW)
    assert made(tmp_path / "keys")["store.pem"] != before["store.pem"]


def test_a_key_that_others_could_read_and_another_name_are_reasons_to_make_it_anew(
    tmp_path: Path,
) -> None:
    secure_store(tmp_path, NOW)
    first = made(tmp_path)
    (tmp_path / "store.key").chmod(0o644)
    secure_store(tmp_path, NOW)
    second = made(tmp_path)
    assert second["store.key"] != first["store.key"]
    secure_store(tmp_path, NOW, ["seaweedfs"])
    assert made(tmp_path)["store.key"] != second["store.key"]


def test_the_configuration_names_every_part_whatever_the_folder_is_called(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s "50%" \\ ü'
    secure_store(folder, NOW)
    read = tomllib.loads((folder / "security.toml").read_text())
    assert read["grpc"].keys() == {
        *("ca", "master", "volume", "filer", "s3", "admin", "worker", "client")
    }
    assert read["https"].keys() == {"master", "volume", "filer", "admin", "client"}
    assert read["https"]["client"]["enabled"] is True
    named = [part["key"] for part in (*read["https"].values(), read["grpc"]["s3"])]
    assert {Path(name) for name in named} == {folder / "store.key"}
    keys = [read["jwt"][name] for name in ("signing", "filer_signing")]
    keys += [key["read"] for key in keys]
    assert len({key["key"] for key in keys}) == 4
