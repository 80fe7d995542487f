"""A TCP proxy in front of an object store that injects faults of networks and servers.

    python -m benchmarks.faults.proxy PORT SEED SHARE

Each request gets one of: passed on; refused with 503; connection reset before or after the server has done it (a lost
reply); the answer cut short; a stall longer than a client waits. At intervals there is a storm: 503 for everybody, for
longer than most requests are retried. It prints its own port, and at its end the faults it injected.
"""

import random
import signal
import socket
import sys
import threading
import time
from collections import Counter

_BUSY = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
FAULTS = ("503", "reset before", "lost reply", "cut short", "stall")
_STALL_SECONDS = 3.0  # clients of `make faults` wait one
_STORM_EVERY_SECONDS, _STORM_SECONDS = 15.0, 4.0
did: Counter[str] = Counter()


def main() -> None:
    """Serve until SIGTERM."""
    target, seed, share = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    rng = random.Random(seed)
    server = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(server.getsockname()[1], flush=True)
    signal.signal(signal.SIGTERM, lambda *_: (print(dict(did), flush=True), sys.exit(0)))
    while True:
        client, _ = server.accept()
        threading.Thread(target=_serve, args=(client, target, rng, share), daemon=True).start()


def _serve(client: socket.socket, target: int, rng: random.Random, share: float) -> None:
    """Serve one connection, request by request."""
    with client, socket.create_connection(("127.0.0.1", target)) as server:
        try:
            while request := _message(client, is_request=True):
                fault = rng.choice(FAULTS) if rng.random() < share else "passed"
                if time.monotonic() % _STORM_EVERY_SECONDS < _STORM_SECONDS:
                    fault = "503 of a storm"
                did[fault] += 1
                if not _broken(fault, request, client, server, rng):
                    return
        except OSError:
            return


def _broken(
    fault: str, request: bytes, client: socket.socket, server: socket.socket, rng: random.Random
) -> bool:
    """Handle a request; return False when the connection is over."""
    if fault.startswith("503"):
        client.sendall(_BUSY)
        return False
    if fault == "reset before":
        return _reset(client)
    if fault == "stall":
        time.sleep(_STALL_SECONDS)
    server.sendall(request)
    answer = _message(server, is_request=False, to=request)
    if fault == "lost reply":
        return _reset(client)
    if fault == "cut short" and len(answer) > 1:
        client.sendall(answer[: rng.randrange(1, len(answer))])
        return _reset(client)
    client.sendall(answer)
    return bool(answer)


def _reset(client: socket.socket) -> bool:
    """Close with RST instead of FIN."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    client.close()
    return False


def _message(stream: socket.socket, is_request: bool, to: bytes = b"") -> bytes:
    """Read a whole HTTP/1.1 message; b'' at the end of the connection."""
    content = b""
    while b"\r\n\r\n" not in content:
        if not (more := stream.recv(65536)):
            return content
        content += more
    head, _, body = content.partition(b"\r\n\r\n")
    headers = dict(
        (name.strip().lower(), value.strip())
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
    )
    if is_request and headers.get(b"expect") == b"100-continue":
        stream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        content = content.replace(b"Expect: 100-continue\r\n", b"")
        head, _, body = content.partition(b"\r\n\r\n")
    status = head.split(b" ")[1] if not is_request else b""
    if not is_request and (to.startswith(b"HEAD ") or status in (b"204", b"304")):
        return content
    if headers.get(b"transfer-encoding") == b"chunked":
        while not body.endswith(b"0\r\n\r\n"):
            if not (more := stream.recv(65536)):
                return content
            content, body = content + more, body + more
        return content
    wanted = int(headers.get(b"content-length", b"0"))
    while len(body) < wanted:
        if not (more := stream.recv(1 << 20)):
            return content
        content, body = content + more, body + more
    return content


if __name__ == "__main__":
    main()
