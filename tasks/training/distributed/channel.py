"""Messages between a training in a child process and the process that started it.

The child has neither Prefect nor MLflow nor the object store's keys: it asks its parent to notify the listener, keep
checkpoints and judge epochs. Messages are JSON over an authenticated socket (`multiprocessing`).
"""

import contextvars
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from tasks.core.errors import StoreError
from tasks.core.training.protocols import CheckpointKeeper, TrainingListener, TrialPruner

Address = str | tuple[str, int]


class ParentChannel:
    """The child's end: listener, keeper and judge in one.

    Args:
        address: address of the parent's end.
        key: authentication key.
    """

    def __init__(self, address: Address, key: bytes) -> None:
        self._connection: Connection[Any, Any] = Client(address, authkey=key)
        # Two locks, because another thread uploads the checkpoints.
        self._send_lock, self._ask_lock = threading.Lock(), threading.Lock()

    def on_step(self, step: int, total_steps: int) -> None:
        """See `TrainingListener`; does not wait for a reply."""
        self._send("on_step", step, total_steps)

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None:
        """See `TrainingListener`; does not wait for a reply."""
        self._send("on_metrics", step, metrics)

    def restore(self, folder: Path) -> Path | None:
        """See `CheckpointKeeper`."""
        restored = self._ask("restore", str(folder))
        return Path(restored) if restored else None

    def due(self) -> bool:
        """See `CheckpointKeeper`."""
        return bool(self._ask("due"))

    def keep(self, checkpoint: Path, best: Path | None) -> None:
        """See `CheckpointKeeper`."""
        self._ask("keep", str(checkpoint), str(best) if best else None)

    def stops(self, epochs: Sequence[dict[str, float]]) -> bool:
        """See `TrialPruner`."""
        return bool(self._ask("stops", list(epochs)))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _send(self, name: str, *arguments: Any) -> None:
        with self._send_lock:
            self._connection.send_bytes(json.dumps([name, arguments]).encode())

    def _ask(self, name: str, *arguments: Any) -> Any:
        with self._ask_lock:
            self._send(name, *arguments)
            answer = json.loads(self._connection.recv_bytes())
        if "error" in answer:
            raise StoreError(f"The process that started this training failed: {answer['error']}")
        return answer["value"]


class WorkerChannel:
    """The parent's end, served by a thread of its own until the child closes the connection.

    Attributes:
        address: the address that the child connects to.
        error: the exception that listener, keeper or judge raised, if any; the child ends then.

    Args:
        address: where to listen: a path (a Unix socket), or host and port (0 for any).
        key: authentication key.
        listener, keeper, judge: receive the child's messages.
    """

    def __init__(
        self,
        address: Address,
        key: bytes,
        listener: TrainingListener,
        keeper: CheckpointKeeper,
        judge: TrialPruner | None,
    ) -> None:
        self.error: BaseException | None = None
        self._key, self._closing = key, False
        self._socket = Listener(address, authkey=key)
        self.address: Address = self._socket.address
        self._notifications: Mapping[str, Callable[..., Any]] = {
            "on_step": listener.on_step,
            "on_metrics": listener.on_metrics,
        }
        self._requests: Mapping[str, Callable[..., Any]] = {
            "restore": lambda folder: _text(keeper.restore(Path(folder))),
            "due": keeper.due,
            "keep": lambda at, best: keeper.keep(Path(at), Path(best) if best else None),
            "stops": lambda epochs: judge is not None and judge.stops(epochs),
        }
        # Run with this thread's context; otherwise log lines belong to no run.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=lambda: context.run(self._serve), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving, once the child has ended or was ended."""
        self._closing = True
        Client(self.address, authkey=self._key).close()  # wakes the thread
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._closing:
            with suppress(AuthenticationError, OSError), self._socket.accept() as connection:
                try:
                    while not self._closing:
                        self._answer(connection)
                except (EOFError, ConnectionError):
                    pass  # connection closed
                except BaseException as error:
                    self.error = error

    def _answer(self, connection: Any) -> None:
        name, arguments = json.loads(connection.recv_bytes())
        if name in self._notifications:
            self._notifications[name](*arguments)
            return
        try:
            value = self._requests[name](*arguments)
        except BaseException as error:
            connection.send_bytes(json.dumps({"error": type(error).__name__}).encode())
            raise
        connection.send_bytes(json.dumps({"value": value}).encode())


def _text(path: Path | None) -> str | None:
    return str(path) if path else None
