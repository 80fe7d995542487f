"""Another user of the machine: does what it is told on standard input, and says what it got.

Standard library alone, because that user has nothing of ours: `/usr/bin/python3 -I attacker.py < attempts.json`. The
input is a JSON list of actions, `{"do": NAME, ...}` with the arguments of the function of that name; the output is one
JSON line for each, in the same order: `{"status": number or null, "text": what came back, "error": why nothing did}`.
"""

import base64
import contextlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.parse

_SECONDS = 10
_LONGEST = 4000  # bytes of an answer that are kept
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def answer(status=None, text="", error=""):
    """One line of output."""
    return {"status": status, "text": text[:_LONGEST], "error": error}


def refused(error):
    """An exception as it is reported."""
    return answer(error=f"{type(error).__name__}: {error}")


def http_request(url, method="GET", headers=None, body=None):
    """One HTTP request; a certificate is not looked at, and no redirect is followed."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https":
        unchecked = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(parts.netloc, timeout=_SECONDS, context=unchecked)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=_SECONDS)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with contextlib.closing(connection):
        connection.request(method, target, body.encode() if body else None, headers or {})
        response = connection.getresponse()
        content = response.read(_LONGEST).decode("utf-8", "replace")
        told = [f"{k}: {v}" for k, v in response.getheaders() if k.lower() in _TOLD]
        return answer(response.status, "\n".join([*told, content]))


_TOLD = ("access-control-allow-origin", "access-control-allow-credentials", "location")


def exchange(host, port, send, tls=False):
    """Send bytes (base64) to a port; returns the first that come back, as latin-1."""
    with contextlib.closing(socket.create_connection((host, port), _SECONDS)) as connection:
        if tls:
            unchecked = ssl._create_unverified_context()
            unchecked.set_alpn_protocols(["h2"])
            connection = unchecked.wrap_socket(connection)
        connection.sendall(base64.b64decode(send))
        with contextlib.closing(connection):
            return answer(text=connection.recv(_LONGEST).decode("latin-1"))


def grpc(host, port, tls=False):
    """Open HTTP/2 as a gRPC client does: a server that lets us in sends its settings."""
    got = exchange(host, port, base64.b64encode(_PREFACE).decode(), tls)["text"]
    if len(got) >= 9 and got[3] == "\x04":
        return answer(200, "HTTP/2 settings: the server speaks")
    return answer(text=got, error="" if got else "closed without an answer")


def websocket(url, messages=(), headers=None, subprotocol=""):
    """Open a WebSocket, send texts, and collect what comes for some seconds."""
    parts = urllib.parse.urlsplit(url)
    asked = {
        "Host": parts.netloc,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
    } | (headers or {})
    if subprotocol:
        asked["Sec-WebSocket-Protocol"] = subprotocol
    lines = [f"GET {parts.path} HTTP/1.1", *(f"{k}: {v}" for k, v in asked.items()), "", ""]
    with contextlib.closing(
        socket.create_connection((parts.hostname, parts.port), _SECONDS)
    ) as connection:
        connection.sendall("\r\n".join(lines).encode())
        stream = connection.makefile("rb")
        status = int(stream.readline().split()[1])
        while stream.readline().strip():
            pass
        if status != 101:
            return answer(status, error="no upgrade")
        for message in messages:
            connection.sendall(_frame(message.encode()))
        connection.settimeout(3)
        return _frames(stream)


def _frame(content):
    """A masked text frame of less than 64 kB."""
    mask = os.urandom(4)
    size = len(content)
    head = bytes([0x81, 0x80 | size]) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(content))


def _frames(stream):
    """The texts that arrive until the server closes or is silent for a while; 101 where it stays open."""
    texts = []
    try:
        while head := stream.read(2):
            size = head[1] & 0x7F
            if size == 126:
                size = int.from_bytes(stream.read(2), "big")
            content = stream.read(size)
            if head[0] & 0x0F == 8:
                code = int.from_bytes(content[:2], "big")
                return answer(code, "\n".join(texts), f"closed by the server with {code}")
            texts.append(content.decode("utf-8", "replace"))
        return answer(None, "\n".join(texts), "closed by the server")
    except OSError:
        return answer(101, "\n".join(["open and stays open", *texts]))


def connect(path):
    """Connect to a Unix socket."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(_SECONDS)
        connection.connect(path)
    return answer(200, "connected")


def open_paths(paths):
    """Read files, list folders, and open both for writing; returns those where that went."""
    got = [f"{way} {path}" for path in paths for way in ("read", "write") if _opens(path, way)]
    return answer(len(got) or None, "\n".join(got), "" if got else f"none of {len(paths)} opened")


def _opens(path, way):
    try:
        if os.path.isdir(path):
            if way == "read":
                os.listdir(path)
            return way == "read" or os.access(path, os.W_OK | os.X_OK)
        with open(path, "rb" if way == "read" else "r+b"):
            return True
    except OSError:
        return False


def processes(pids):
    """Read environment, memory and files of processes, and send them no signal: only ask whether one could."""
    got = []
    for pid in pids:
        for name in ("environ", "mem", "maps", "fd", "cwd"):
            path = f"/proc/{pid}/{name}"
            with contextlib.suppress(OSError):
                if name in ("fd", "cwd"):
                    os.listdir(path)
                else:
                    with open(path, "rb") as stream:
                        stream.read(1)
                got.append(path)
        with contextlib.suppress(OSError):
            os.kill(pid, 0)
            got.append(f"signals to {pid}")
    return answer(len(got) or None, "\n".join(got), "" if got else f"none of {len(pids)} opened")


def program(command, stdin="", environment=None, seconds=_SECONDS, folder="/"):
    """Run a program of the machine to its end, or for some seconds."""
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"} | (environment or {}),
        cwd=folder,
        text=True,
        errors="replace",
    )
    try:
        said, _ = child.communicate(stdin, timeout=seconds)
        return answer(child.returncode, said)
    except subprocess.TimeoutExpired:
        child.kill()
        said, _ = child.communicate()
        return answer(None, said, f"no end within {seconds} s")


def curl(arguments):
    """Run curl, which signs requests as S3 wants it; the status is that of the answer."""
    command = ["/usr/bin/curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "10"]
    got = program([*command, "--write-out", "\n%{http_code}", *arguments], seconds=15)
    text, _, code = got["text"].rpartition("\n")
    if got["status"] or not code.isdigit():
        return answer(error=got["text"].strip() or got["error"])
    return answer(int(code), text)


def many(requests):
    """Several HTTP requests; returns `status method path` of each."""
    lines = []
    for request in requests:
        try:
            got = http_request(**request)
        except (OSError, http.client.HTTPException, ValueError) as error:
            got = refused(error)
        path = urllib.parse.urlsplit(request["url"]).path
        lines.append([got["status"], request.get("method", "GET"), path, got["text"], got["error"]])
    return {"status": None, "text": json.dumps(lines), "error": ""}


def main():
    """Do all of it."""
    actions = {f.__name__: f for f in (http_request, exchange, grpc, websocket, connect)}
    actions |= {f.__name__: f for f in (open_paths, processes, program, curl, many)}
    for asked in json.load(sys.stdin):
        do = actions[asked.pop("do")]
        started = time.monotonic()
        try:
            got = do(**asked)
        except (OSError, http.client.HTTPException, ValueError) as error:
            got = refused(error)
        print(json.dumps(got | {"seconds": round(time.monotonic() - started, 2)}), flush=True)


if __name__ == "__main__":
    main()
