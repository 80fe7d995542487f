"""Run nginx: one address in front of several servers, so that clients do not notice the death of one."""

from collections.abc import Sequence
from pathlib import Path

from deployments.stack.high_availability.debian import Account, plain_environment, program
from deployments.stack.supervision import Program
from tasks.connectors.private_files import write_private
from tasks.connectors.servers.seaweedfs import HOST

ANSWERED_BY = "X-Nightshift-Answered-By"  # header with the address of the server that answered
_CONFIGURATION = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    server_tokens off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;

    # Events, logs and workers come by websocket; what asks for no upgrade gets a connection of its own.
    map $http_upgrade $connection_upgrade {{ default upgrade; "" close; }}

    upstream replicas {{
{servers}
    }}
    server {{
        listen {host}:{port};
        client_max_body_size 64m;
        add_header {answered_by} $upstream_addr always;
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_connect_timeout 2s;
        proxy_read_timeout 120s; # a quiet websocket is pinged every 20 s
        proxy_next_upstream_tries {count};

        # A change that a replica may have made before it died is not made again by the other: who asked for it gets a
        # 502. Prefect's clients then repeat it, and the server knows again those that must not happen twice.
        location / {{
            proxy_pass http://replicas;
            proxy_next_upstream error timeout http_502 http_503;
        }}
        # Prefect's questions are posted too, and do no harm when they are asked twice.
        location ~ /(filter|count|history|lateness|paginate)$ {{
            proxy_pass http://replicas;
            proxy_next_upstream error timeout http_502 http_503 non_idempotent;
        }}
    }}
}}
"""


class LoadBalancer:
    """nginx in front of the replicas of a server.

    Args:
        name: the program's name.
        folder: the program's own folder.
        port: the port for clients, on loopback.
        replicas: ports of the servers, on loopback.
    """

    def __init__(self, name: str, folder: Path, port: int, replicas: Sequence[int]) -> None:
        self._folder, self._port, self._replicas = folder, port, replicas
        self._account = Account("www-data")
        self.user_id = self._account.user_id
        command = [*self._account.prefix("TERM"), program("nginx"), "-e", "stderr"]
        self.program = Program(
            name=name,
            command=[*command, "-p", str(folder), "-c", str(self._configuration)],
            environment=plain_environment(),
        )

    @property
    def _configuration(self) -> Path:
        return self._folder / "nginx.conf"

    def prepare(self) -> None:
        """Write its configuration."""
        self._account.folder(self._folder)
        servers = [
            f"        server {HOST}:{port} max_fails=1 fail_timeout=5s;" for port in self._replicas
        ]
        text = _CONFIGURATION.format(
            folder=self._folder,
            servers="\n".join(servers),
            host=HOST,
            port=self._port,
            count=len(self._replicas),
            answered_by=ANSWERED_BY,
        )
        write_private(self._configuration, text)
        self._account.give(self._configuration)
