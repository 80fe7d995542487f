"""What is tried of an MLflow server."""

from typing import Any

from tests.attack.answers import Attempt
from tests.attack.laid_out import LaidOut
from tests.attack.prefect_attempts import FOREIGN, basic, http, sweep
from tests.attack.routes import Routes

# The password that MLflow's own documentation gives, and others that people try first.
_WRONG = ("admin:password1234", "admin:password", "admin:admin", "nightshift:nightshift", ":")
_API = "/api/2.0/mlflow"


def reads(target: str, url: str, laid: LaidOut) -> list[Attempt]:
    """Ask for everything, without a password and with wrong ones."""
    search = f"{url}{_API}/experiments/search"
    question = {"max_results": 10}
    artifacts = f"{url}/api/2.0/mlflow-artifacts/artifacts"
    made = [http(target, search, "POST", question)]
    made += [http(target, search, "POST", question, basic(p), f"password {p}") for p in _WRONG]
    made += [
        http(target, search, "POST", question, {k: v}, f"{k}: {v}")
        for k, v in (
            ("Authorization", "Bearer x"),
            ("Authorization", "Basic !"),
            ("Host", "evil.example"),
            ("Origin", FOREIGN),
            ("Origin", "http://127.0.0.1:1"),
            ("Cookie", "session=x"),
        )
    ]
    made += [
        http(target, url + path)
        for path in (
            f"{_API}/experiments/get?experiment_id={laid.experiment}",
            f"{_API}/registered-models/search",
            f"{_API}/model-versions/search",
            "/ajax-api/2.0/mlflow/experiments/search?max_results=10",
            "/get-artifact?path=MLmodel&run_uuid=x",
            "/model-versions/get-artifact?name=reviews&version=1&path=MLmodel",
            "//api/2.0/mlflow/experiments/search?max_results=10",
            "/health/../api/2.0/mlflow/experiments/search?max_results=10",
            "/static-files/../api/2.0/mlflow/experiments/search?max_results=10",
            "/static-files/..%2f..%2f..%2f..%2fetc/passwd",
            "/health",
            "/version",
            "/metrics",
            "/docs",
            "/openapi.json",
        )
    ]
    graphql = {
        "query": 'query { mlflowSearchRuns(input: {experimentIds: ["0"]}) { runs { info { runId } } } }'
    }
    made += [http(target, f"{url}/graphql", "POST", graphql), http(target, artifacts)]
    preflight = {"Origin": FOREIGN, "Access-Control-Request-Method": "POST"}
    made.append(
        http(target, search, "OPTIONS", headers=preflight, note=f"preflight from {FOREIGN}")
    )
    return made


def writes(target: str, url: str, laid: LaidOut) -> list[Attempt]:
    """Make runs, accounts, models and artifacts."""
    account = {"username": "attacker", "password": "a-long-password"}
    asked: list[tuple[str, str, Any]] = [
        ("POST", f"{_API}/experiments/create", {"name": "attack"}),
        ("POST", f"{_API}/runs/create", {"experiment_id": laid.experiment}),
        ("POST", f"{_API}/registered-models/create", {"name": "attack"}),
        ("POST", f"{_API}/users/create", account),
        ("POST", "/ajax-api/2.0/mlflow/users/create", account),
        ("POST", "/signup", None),
        ("POST", f"{_API}/experiments/update", {"experiment_id": laid.experiment, "new_name": "x"}),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/attack/x.txt", "x"),
        ("POST", "/v1/traces", {}),
    ]
    return [http(target, url + path, method, q) for method, path, q in asked]


def destruction(target: str, url: str, laid: LaidOut, routes: Routes) -> list[Attempt]:
    """Delete what there is; then every route, of which some delete more."""
    delete = {"experiment_id": laid.experiment}
    return [
        http(target, f"{url}{_API}/experiments/delete", "POST", delete),
        http(target, f"{url}/api/2.0/mlflow-artifacts/artifacts/attack/x.txt", "DELETE"),
        sweep(target, url, routes.mlflow, "no password"),
    ]
