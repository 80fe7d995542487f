"""Hold a process between two of its requests, while something else happens.

Every call of boto3 and of MLflow's client is a numbered point. The other action runs in the same thread, so the held
process is stopped for as long as that takes.
"""

import contextlib
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from botocore.client import BaseClient
from mlflow import MlflowClient

_OF_MLFLOW = (
    "get_registered_model",
    "get_model_version",
    "get_model_version_by_alias",
    "set_registered_model_alias",
    "delete_registered_model_alias",
    "search_model_versions",
    "set_model_version_tag",
)


class Died(BaseException):
    """Raised to end a process in the middle; nothing catches it."""


@dataclass
class Held:
    """The treatment of one process.

    Args:
        gap: the request before which it is held, from 1; 0 only counts requests.
        happens: called while it is held.
        dies: True if it dies as soon as that request is answered.
    """

    gap: int = 0
    happens: Callable[[], Any] = lambda: None
    dies: bool = False
    requests: list[str] = field(default_factory=list[str])
    _elsewhere: bool = False
    _within: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def _pass(self, name: str, ask: Callable[[], Any]) -> Any:
        with self._lock:
            held = not self._elsewhere and len(self.requests) + 1 == self.gap
            if not self._elsewhere:
                self.requests.append(name)
            self._elsewhere = self._elsewhere or held
        if held:
            try:
                self.happens()
            finally:
                self._elsewhere = False
        answer = ask()
        if held and self.dies:
            raise Died
        return answer

    @contextlib.contextmanager
    def watch(self) -> Generator[None]:
        """Count the requests of this process within the block."""
        with contextlib.ExitStack() as undo:
            call = BaseClient.__dict__["_make_api_call"]

            def of_s3(client: Any, operation: str, given: Any) -> Any:
                return self._pass(operation, lambda: call(client, operation, given))

            _replace(undo, BaseClient, "_make_api_call", of_s3)
            for name in _OF_MLFLOW:
                _replace(undo, MlflowClient, name, self._of_mlflow(name))
            yield

    def _of_mlflow(self, name: str) -> Any:
        original = getattr(MlflowClient, name)

        def ask(asked: str, client: Any, args: Any, kwargs: Any) -> Any:
            # To set an alias, the client requests the model first.
            self._within = f"{asked}, within it "
            try:
                return original(client, *args, **kwargs)
            finally:
                self._within = ""

        def method(client: Any, *args: Any, **kwargs: Any) -> Any:
            asked = f"{name} {args[1]}" if name.endswith("_alias") else name
            return self._pass(f"{self._within}{asked}", lambda: ask(asked, client, args, kwargs))

        return method


def _replace(undo: contextlib.ExitStack, owner: Any, name: str, value: Any) -> None:
    undo.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)
