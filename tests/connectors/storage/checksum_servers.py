"""A server between boto3 and a real store, which looks at the headers of each write and may refuse it."""

import contextlib
import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tasks.connectors.servers.local_servers import LocalObjectStore

Answer = Callable[[str, dict[str, str]], tuple[int, str, str] | None]


def _checksums(headers: dict[str, str]) -> list[str]:
    return [name for name in headers if name.startswith(("x-amz-checksum-", "x-amz-sdk-checksum"))]


def refuses(method: str, headers: dict[str, str]) -> tuple[int, str, str] | None:
    """A store of before 2025."""
    if method in ("PUT", "POST") and (_checksums(headers) or "x-amz-trailer" in headers):
        said = "A header you provided implies functionality that is not implemented"
        return 501, "NotImplemented", said
    return None


def insists(method: str, headers: dict[str, str]) -> tuple[int, str, str] | None:
    """A bucket with Object Lock, as AWS answers for one."""
    if method == "PUT" and not (_checksums(headers) or "content-md5" in headers):
        return 400, "InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required"
    return None


class Between:
    """A server before a store, which refuses what it is told to refuse and passes on the rest."""

    def __init__(self, target: LocalObjectStore, answer: Answer) -> None:
        self.refused = 0
        between, host = self, target.endpoint_url.removeprefix("http://")

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                said = answer(self.command, {k.lower(): v for k, v in self.headers.items()})
                if said:
                    between.refused += 1
                    status, code, message = said
                    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
                    content, found = error.encode(), list[tuple[str, str]]()
                else:
                    with contextlib.closing(http.client.HTTPConnection(host)) as connection:
                        connection.request(self.command, self.path, body, dict(self.headers))
                        got = connection.getresponse()
                        status, content, found = got.status, got.read(), got.getheaders()
                self.send_response_only(status)
                for name, value in found:
                    if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                        self.send_header(name, value)
                length = {k.lower(): v for k, v in found}.get("content-length", "0")
                self.send_header(
                    "Content-Length", length if self.command == "HEAD" else str(len(content))
                )
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
