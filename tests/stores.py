"""Other S3 servers than the embedded one, from Debian's packages, for the slow tests: Ceph's RGW and OpenStack's Swift.

Companies run both, and both differ where it hurts: RGW 16 refuses every If-Match of a write, Swift answers 501 to any
conditional write. Each is several processes on free loopback ports, with data in a folder; nothing of the system's own
configuration is touched.
"""

import contextlib
import os
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from deployments.stack.high_availability.debian import program
from tasks.connectors.servers.child_process import ChildProcess
from tasks.connectors.servers.seaweedfs import HOST, free_ports
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import NightshiftError

_PATIENCE_SECONDS = 90.0
_ACCESS_KEY, _SECRET_KEY = "test:tester", "not-a-secret"  # Swift's tempauth wants account:user


class OtherStore(Protocol):
    """An S3 server for a test."""

    endpoint_url: str
    access_key: str
    secret_key: str

    def stop(self) -> None:
        """End it."""
        ...


def missing(name: str) -> str:
    """Debian packages that a server needs and that are not installed, in one line; '' when all are there."""
    needs = {
        "ceph": {"ceph-mon": "ceph-mon", "ceph-osd": "ceph-osd", "radosgw": "radosgw"},
        "swift": {f"swift-{part}-server": f"swift-{part}" for part in Swift.PARTS}
        | {"memcached": "memcached"},
    }[name]
    return " ".join(package for wanted, package in needs.items() if not program(wanted))


def start(name: str, folder: Path) -> OtherStore:
    """Start a server, and return once it takes a write."""
    with contextlib.ExitStack() as undo:
        server = CephRGW(folder, undo) if name == "ceph" else Swift(folder, undo)
        _until_it_answers(server)
        undo.pop_all()
        return server


def _until_it_answers(server: OtherStore) -> None:
    store = ObjectStore(server.endpoint_url, server.access_key, server.secret_key)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            store.make_bucket("nightshift")
            store.probe("s3://nightshift")
            return
        except NightshiftError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


class _Parts:
    """The processes that make up a server; those that others need come first.

    Args:
        folder: for its data.
        undo: ends what has been started, should it not come up.
    """

    def __init__(self, folder: Path, undo: contextlib.ExitStack) -> None:
        undo.callback(self.stop)
        self.folder = folder
        self.access_key, self.secret_key = _ACCESS_KEY, _SECRET_KEY
        self._children: list[ChildProcess] = []
        self._environment = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}

    def run(self, *command: str) -> str:
        """A command that ends."""
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, text=True,
            timeout=_PATIENCE_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()[-500:]}"
        return done.stdout

    def keep_running(self, name: str, *command: str) -> None:
        """A server that ends with `stop`, or with this process."""
        log = self.folder / f"{name}.log"
        self._children.append(
            ChildProcess(name, command, self._environment, log, kill_at_once=True)
        )

    def stop(self) -> None:
        """End all of them."""
        for child in reversed(self._children):
            child.stop()


class CephRGW(_Parts):
    """Ceph's S3 gateway before one monitor and one OSD that keeps its data in memory."""

    def __init__(self, folder: Path, undo: contextlib.ExitStack) -> None:
        super().__init__(folder, undo)
        v2, v1, http = free_ports(3)
        self.endpoint_url = f"http://{HOST}:{http}"
        monitor = f"[v2:{HOST}:{v2},v1:{HOST}:{v1}]"
        cluster, osd = str(uuid.uuid4()), str(uuid.uuid4())
        self._configure(cluster, monitor)
        self.run("ceph-authtool", "--create-keyring", "keyring", "--gen-key", "-n", "mon.",
                 "--cap", "mon", "allow *")  # fmt: skip
        self.run("ceph-authtool", "keyring", "--gen-key", "-n", "client.admin",
                 "--cap", "mon", "allow *", "--cap", "osd", "allow *")  # fmt: skip
        self.run("monmaptool", "--create", "--fsid", cluster, "--addv", "a", monitor, "monmap")
        self._ceph("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring")
        self.keep_running("mon", "ceph-mon", *self._with, "-f", "-i", "a")
        self._ceph("ceph", "osd", "new", osd)
        rights = ["mon", "allow profile osd", "osd", "allow *"]
        key = self._ceph("ceph", "auth", "get-or-create", "osd.0", *rights)
        with (folder / "keyring").open("a") as stream:
            stream.write(key)
        self._ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self.keep_running("osd", "ceph-osd", *self._with, "-f", "-i", "0")
        user = ["--uid", "tester", "--display-name", "tester"]
        keys = ["--access-key", self.access_key, "--secret-key", self.secret_key]
        self._ceph("radosgw-admin", "user", "create", *user, *keys)
        frontend = f"beast endpoint={HOST}:{http}"
        self.keep_running(
            "rgw", "radosgw", *self._with, "-f", "-n", "client.admin", "--rgw-frontends", frontend
        )

    @property
    def _with(self) -> Sequence[str]:
        return "-c", str(self.folder / "ceph.conf")

    def _ceph(self, command: str, *words: str) -> str:
        return self.run(command, *self._with, *words)

    def _configure(self, cluster: str, monitor: str) -> None:
        for name in ("mon", "osd", "rgw"):
            (self.folder / name).mkdir(parents=True)
        settings = {
            "fsid": cluster,
            "mon_host": monitor,
            "mon_initial_members": "a",
            "public_addr": HOST,
            "cluster_addr": HOST,
            **{f"auth_{who}_required": "cephx" for who in ("cluster", "service", "client")},
            **{f"{part}_data": self.folder / part for part in ("mon", "osd", "rgw")},
            "keyring": self.folder / "keyring",
            "run_dir": self.folder,
            "log_file": f"{self.folder}/$name.own.log",
            "pid_file": "",
            "admin_socket": "",
            "osd_objectstore": "memstore",
            "memstore_device_bytes": 2 << 30,
            # one copy, on one disk, in few placement groups
            "osd_pool_default_size": 1,
            "osd_pool_default_min_size": 1,
            "mon_allow_pool_size_one": "true",
            "osd_crush_chooseleaf_type": 0,
            "osd_pool_default_pg_num": 8,
            "osd_pool_default_pg_autoscale_mode": "off",
            "mon_max_pg_per_osd": 1000,
            "mon_data_avail_crit": 1,
        }
        lines = ["[global]", *(f"{name} = {value}" for name, value in settings.items())]
        (self.folder / "ceph.conf").write_text("\n".join(lines) + "\n")


class Swift(_Parts):
    """OpenStack's Swift with its S3 API, one copy of everything."""

    PARTS = ("account", "container", "object", "proxy")

    def __init__(self, folder: Path, undo: contextlib.ExitStack) -> None:
        super().__init__(folder, undo)
        (folder / "devices" / "d1").mkdir(parents=True)
        (folder / "swift.conf").write_text(
            "[swift-hash]\nswift_hash_path_suffix = x\nswift_hash_path_prefix = y\n"
            "[storage-policy:0]\nname = one\ndefault = yes\n"
        )
        http, cache, *ports = free_ports(5)
        self.endpoint_url = f"http://{HOST}:{http}"
        self.keep_running("memcached", "memcached", "-u", "root", "-l", HOST, "-p", str(cache))
        for part, port in zip(("account", "container", "object"), ports, strict=True):
            pipeline = f"[pipeline:main]\npipeline = {part}-server\n[app:{part}-server]\nuse = egg:swift#{part}\n"
            self._serve(part, port, pipeline)
            builder = f"{part}.builder"
            self.run("swift-ring-builder", builder, "create", "4", "1", "1")
            self.run("swift-ring-builder", builder, "add", f"r1z1-{HOST}:{port}/d1", "1")
            self.run("swift-ring-builder", builder, "rebalance")
        filters = {
            "catch_errors": {},
            "cache": {"use": "egg:swift#memcache", "memcache_servers": f"{HOST}:{cache}"},
            "bulk": {},
            "s3api": {"location": "us-east-1"},
            "tempauth": {"user_test_tester": f"{self.secret_key} .admin"},
            "slo": {},
            "dlo": {},
            "copy": {},
        }
        text = f"[pipeline:main]\npipeline = {' '.join(filters)} proxy-server\n"
        text += "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
        for name, settings in filters.items():
            given = {"use": f"egg:swift#{name}"} | settings
            text += f"[filter:{name}]\n" + "".join(f"{k} = {v}\n" for k, v in given.items())
        self._serve("proxy", http, text)

    def _serve(self, part: str, port: int, pipeline: str) -> None:
        path = self.folder / f"{part}.conf"
        path.write_text(
            f"[DEFAULT]\nbind_ip = {HOST}\nbind_port = {port}\nuser = {os.environ.get('USER', 'root')}\n"
            f"swift_dir = {self.folder}\ndevices = {self.folder}/devices\nmount_check = false\nworkers = 0\n"
            f"log_level = WARNING\ndisable_fallocate = true\nfallocate_reserve = 0\n{pipeline}"
        )
        self.keep_running(part, f"swift-{part}-server", str(path), "-v")
