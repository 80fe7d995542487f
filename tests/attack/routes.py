"""Every route of the servers that is there to be tried: `python -m tests.attack.routes [mlflow]` prints them as JSON.

In a process of its own, because importing a server sets much up.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from typing import Any, NamedTuple

from starlette.routing import WebSocketRoute

from tests.paths import ROOT

_NOBODY = "00000000-0000-0000-0000-000000000000"
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Routes(NamedTuple):
    """Pairs of method and path; WebSockets have paths only."""

    prefect: list[tuple[str, str]]
    prefect_websockets: list[str]
    mlflow: list[tuple[str, str]]


def read_routes(of_mlflow: bool = True) -> Routes:
    """Ask a process of its own. `of_mlflow`: where false, MLflow is not imported and has none."""
    with tempfile.TemporaryDirectory() as home:
        given = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
        given |= {"PREFECT_HOME": home, "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{home}/mlflow.db"}
        given |= {"_MLFLOW_SERVER_ARTIFACT_ROOT": home, "MLFLOW_DISABLE_TELEMETRY": "true"}
        done = subprocess.run(
            [sys.executable, "-m", "tests.attack.routes", *(["mlflow"] if of_mlflow else [])],
            cwd=ROOT,
            env=given,
            capture_output=True,
            text=True,
            check=True,
        )
    found = json.loads(done.stdout.splitlines()[-1])
    return Routes(
        [(m, p) for m, p in found["prefect"]],
        found["prefect_websockets"],
        [(m, p) for m, p in found["mlflow"]],
    )


def _filled(path: str) -> str:
    """A path with something in its variables: {id:uuid}, <path:name>."""
    return re.sub(r"\{[^}]*\}|<[^>]*>", _NOBODY, path)


def _methods(route: Any) -> list[str]:
    return sorted(set(getattr(route, "methods", None) or ()) & set(_METHODS))


def _prefect() -> tuple[list[tuple[str, str]], list[str]]:
    from prefect.server.api.server import API_ROUTERS

    routes = [route for router in API_ROUTERS for route in router.routes]
    plain = {
        (m, f"/api{_filled(str(getattr(r, 'path', '')))}") for r in routes for m in _methods(r)
    }
    sockets = {f"/api{_filled(r.path)}" for r in routes if isinstance(r, WebSocketRoute)}
    return sorted(plain), sorted(sockets)


def _mlflow() -> list[tuple[str, str]]:
    from mlflow.server import app
    from mlflow.server.auth import routes as accounts
    from mlflow.server.fastapi_app import create_fastapi_app

    found = {(m, _filled(str(r))) for r in app.url_map.iter_rules() for m in _methods(r)}
    for route in create_fastapi_app(app).routes:
        found |= {(m, _filled(str(getattr(route, "path", "")))) for m in _methods(route)}
    for name, path in vars(accounts).items():
        if name.isupper() and isinstance(path, str) and path.startswith("/"):
            found |= {(m, _filled(path)) for m in ("GET", "POST", "PATCH", "DELETE")}
    return sorted(found)


if __name__ == "__main__":
    prefect, websockets = _prefect()
    mlflow = _mlflow() if "mlflow" in sys.argv else []
    print(json.dumps({"prefect": prefect, "prefect_websockets": websockets, "mlflow": mlflow}))
