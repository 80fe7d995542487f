"""What is tried of a Prefect server."""

import base64
import json
import shlex
from typing import Any

from tests.attack.answers import Attempt
from tests.attack.laid_out import LaidOut
from tests.attack.routes import Routes

FOREIGN = "http://evil.example"
WRONG = ("", "admin:admin", "nightshift:nightshift", "nightshift:", "prefect:prefect")
JSON = {"Content-Type": "application/json"}
# What a person sees before the login, and what anybody may know because it is in Prefect's source.
PAGES = ("/", "/v2/", "/v2/dashboard", "/ui-settings", "/docs", "/redoc", "/openapi.json")
PROBES = ("/api/health", "/api/ready")
_PRIVATE = ("/api/admin/settings", "/api/admin/version", "/api/version", "/api/csrf-token?client=x")
_SCHEMAS = ("/api/docs", "/api/redoc", "/api/openapi.json", "/metrics", "/api/metrics")
_TRICKS = (
    "/api//flows/filter",
    "/api/health/../flows/filter",
    "/api/flows/filter/",
    "/api/flows/filter?x=/health",
    "/api/health/%2e%2e/flows/filter",
    "//api/flows/filter",
    "/API/flows/filter",
)


def basic(proof: str) -> dict[str, str]:
    """The header of a name and password."""
    return {"Authorization": f"Basic {base64.b64encode(proof.encode()).decode()}"}


def http(
    target: str,
    url: str,
    method: str = "GET",
    question: Any = None,
    headers: dict[str, str] | None = None,
    note: str = "",
) -> Attempt:
    """One HTTP request; `note` says in the table what is special about it."""
    path = "/" + url.split("/", 3)[3]
    sent = headers or {}
    action: dict[str, Any] = {"do": "http_request", "url": url, "method": method, "headers": sent}
    if question is not None:
        action["body"] = question if isinstance(question, str) else json.dumps(question)
        action["headers"] = JSON | sent
    tried = f"{method} {path}{f', {note}' if note else ''}"
    return Attempt(target=target, tried=tried, action=action)


def sweep(target: str, url: str, routes: list[tuple[str, str]], note: str) -> Attempt:
    """Every route of a server, with an empty question."""
    requests = [
        {"url": f"{url}{path}", "method": method}
        | ({} if method == "GET" else {"headers": JSON, "body": "{}"})
        for method, path in routes
    ]
    return Attempt(target=target, tried=note, action={"do": "many", "requests": requests})


def reads(target: str, url: str, laid: LaidOut, routes: Routes) -> list[Attempt]:
    """Ask for everything, without a password and with wrong ones."""
    made = [http(target, url + path) for path in (*PAGES, *PROBES, *_PRIVATE, *_SCHEMAS)]
    made += [http(target, url + path, "POST", {}) for path in _TRICKS]
    made += [http(target, url + PROBES[0], "POST", {})]
    variables = f"{url}/api/variables/filter"
    for proof in WRONG:
        headers, note = basic(proof), f"password {proof or 'empty'}"
        made.append(http(target, variables, "POST", {}, headers, note))
    for header, value in (
        ("Authorization", "Bearer x"),
        ("Authorization", "Basic !"),
        ("Authorization", ""),
        ("X-Prefect-Api-Key", "x"),
        ("Host", "evil.example"),
        ("Host", "x/api/health?"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Original-Url", "/api/health"),
        ("Origin", FOREIGN),
    ):
        made.append(http(target, variables, "POST", {}, {header: value}, f"{header}: {value}"))
    made += [
        http(target, url + p, headers={"Host": "evil.example"}, note="foreign Host") for p in PROBES
    ]
    return made + _preflights(target, url) + _websockets(target, url, routes)


def _preflights(target: str, url: str) -> list[Attempt]:
    """What a browser asks for a page of another origin before it sends what a form could not."""
    return [
        http(
            target,
            f"{url}/api/variables/filter",
            "OPTIONS",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type",
            },
            note=f"preflight from {origin}",
        )
        for origin in (FOREIGN, "null", "http://127.0.0.1:1")
    ]


def _websockets(target: str, url: str, routes: Routes) -> list[Attempt]:
    """Events and logs as they happen, and made-up ones."""
    made: list[Attempt] = []
    for path in routes.prefect_websockets:
        for note, subprotocol, token in (
            ("no password", "", None),
            ("empty password", "prefect", ""),
            ("wrong password", "prefect", "nightshift:nightshift"),
            ("no message of a password", "prefect", None),
        ):
            say = [] if token is None else [json.dumps({"type": "auth", "token": token})]
            action = {
                "do": "websocket",
                "url": url + path,
                "subprotocol": subprotocol,
                "messages": [*say, json.dumps({"type": "filter", "filter": {}})],
                "headers": {"Origin": FOREIGN},
            }
            made.append(Attempt(target=target, tried=f"WebSocket {path}, {note}", action=action))
    return made


def command_run(marker: str) -> dict[str, Any]:
    """A question to `create_flow_run` whose run is a command of the attacker's."""
    command = shlex.join(["/bin/sh", "-c", f"env > {marker}"])
    return {
        "name": "attack",
        "job_variables": {"command": command},
        "state": {"type": "SCHEDULED"},
    }


def writes(target: str, url: str, laid: LaidOut) -> list[Attempt]:
    """Run a command, change what workers do, put things in."""
    event = {
        "id": "00000000-0000-0000-0000-000000000001",
        "occurred": "2030-01-01T00:00:00Z",
        "event": "nightshift.reviews.labelled",
        "resource": {"prefect.resource.id": "attack"},
    }
    asked: list[tuple[str, str, Any]] = [
        ("POST", "variables/", {"name": "attack2", "value": "x"}),
        ("PATCH", "variables/name/attack", {"value": "changed"}),
        ("POST", "events", [event]),
        ("POST", "artifacts/", {"key": "attack", "type": "markdown", "data": "x"}),
        ("POST", "flows/", {"name": "attack"}),
        ("POST", "work_pools/", {"name": "attack", "type": "process"}),
        ("POST", "block_types/", {"name": "attack", "slug": "attack"}),
    ]
    if laid.deployment:
        run = f"deployments/{laid.deployment}/create_flow_run"
        asked += [
            ("POST", run, command_run(laid.markers["user"])),
            ("PATCH", f"work_pools/{laid.pool}", {"description": "attack"}),
            ("PATCH", f"deployments/{laid.deployment}", {"job_variables": {"command": "id"}}),
        ]
    return [http(target, f"{url}/api/{path}", method, q) for method, path, q in asked]


def destruction(target: str, url: str, laid: LaidOut, routes: Routes) -> list[Attempt]:
    """Delete what there is; then every route, of which some delete more."""
    asked: list[tuple[str, str, Any]] = [("DELETE", "variables/name/attack", None)]
    if laid.deployment:
        asked.append(("DELETE", f"deployments/{laid.deployment}", None))
    asked += [("DELETE", f"flows/{flow}", None) for flow in laid.flows[:3]]
    made = [http(target, f"{url}/api/{path}", method, q) for method, path, q in asked]
    return [*made, sweep(target, url, routes.prefect, "no password")]
