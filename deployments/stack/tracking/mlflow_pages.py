"""Make MLflow answer its own pages and programs, but no page of another address.

MLflow lets every page of `localhost` read its answers and send it JSON, and a browser adds the saved name and password.
So a page that another user of this machine serves, and that the owner opens, could do in MLflow whatever the owner may.
Named in `basic_auth.ini` as `authorization_function`, `authenticate` is called before every request except health
checks and static files.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Response
    from werkzeug.datastructures import Authorization

AUTHORIZATION_FUNCTION = f"{__name__}:authenticate"


def authenticate() -> "Authorization | Response":
    """Check name and password as MLflow does, and refuse requests of pages of another address."""
    # Imported here: whoever calls this has already imported the server; whoever only names it need not.
    from flask import request
    from mlflow.server import auth

    if of_a_foreign_page(request.method, dict(request.headers)):
        return auth.make_forbidden_response()
    authorization = request.authorization
    # MLflow answers a bearer token with an error of its own.
    if authorization is None or authorization.type != "basic":
        return auth.make_basic_auth_response()
    return auth.authenticate_request_basic_auth()


def of_a_foreign_page(method: str, headers: Mapping[str, str]) -> bool:
    """Return True if a page of another address sends the request. Following a link to MLflow does not count.

    Args:
        method: method of the request.
        headers: headers of the request. Browsers set `Sec-Fetch-*` and `Origin`, and no page can change them.
    """
    link = (
        method == "GET"
        and headers.get("Sec-Fetch-Mode") == "navigate"
        and headers.get("Sec-Fetch-Dest") == "document"
    )
    if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not link:
        return True
    origin, host = headers.get("Origin"), headers.get("Host", "")
    return origin is not None and origin not in (f"http://{host}", f"https://{host}")
