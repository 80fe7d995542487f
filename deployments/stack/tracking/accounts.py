"""The account by which workers use MLflow, with what they need and no more.

They may write to the experiment and to the model that is trained unless another is named, and read everything else. A
model that they register under another name is theirs: MLflow gives it to whoever makes it. They cannot touch accounts,
nor experiments and models that people made.
"""

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from tasks.core.errors import ServiceError


class MLflowAccounts:
    """MLflow's accounts, as its administrator sees them.

    Args:
        url: of the server.
        name: of the administrator.
        password: the administrator's.
    Raises:
        ServiceError: from every method, when MLflow refuses or is not there.
    """

    def __init__(self, url: str, name: str, password: str) -> None:
        self._url = url
        proof = base64.b64encode(f"{name}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {proof}", "Content-Type": "application/json"}

    def make_worker(self, name: str, password: str, experiment: str, model: str) -> None:
        """Make the account, or give it the password anew, and let it write where it works.

        Args:
            name: of the account.
            password: its own.
            experiment: name; made where it is not there.
            model: name of a registered model, likewise.
        """
        if self._ask("GET", "2.0/mlflow/users/get", username=name) is None:
            self._ask("POST", "2.0/mlflow/users/create", username=name, password=password)
        else:
            given = {"username": name, "password": password}
            self._ask("PATCH", "2.0/mlflow/users/update-password", **given)
        self._grant(name, "experiment", self._experiment(experiment))
        # Of a model that does not exist, MLflow tells all but administrators that they have no permission.
        if self._ask("GET", "2.0/mlflow/registered-models/get", name=model) is None:
            self._ask("POST", "2.0/mlflow/registered-models/create", name=model)
        self._grant(name, "registered_model", model)

    def _grant(self, name: str, kind: str, resource: str) -> None:
        given = {"username": name, "resource_type": kind, "resource_id": resource}
        self._ask("POST", "3.0/mlflow/users/permissions/grant", **given, permission="EDIT")

    def _experiment(self, name: str) -> str:
        found = self._ask("GET", "2.0/mlflow/experiments/get-by-name", experiment_name=name)
        if found is None:
            return str(
                self._ask("POST", "2.0/mlflow/experiments/create", name=name)["experiment_id"]
            )
        return str(found["experiment"]["experiment_id"])

    def _ask(self, method: str, path: str, **given: str) -> Any:
        """The answer; None where what was asked for does not exist, or what is to be made does already."""
        url, content = f"{self._url}/api/{path}", None
        if method == "GET":
            url += f"?{urllib.parse.urlencode(given)}"
        else:
            content = json.dumps(given).encode()
        request = urllib.request.Request(url, content, self._headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")[:300]
            if error.code == 404 or "RESOURCE_ALREADY_EXISTS" in said:
                return None
            raise ServiceError(
                f"MLflow refuses {path} ({error.code}): {said}", self._url
            ) from error
        except OSError as error:
            raise ServiceError(f"MLflow does not answer: {error}", self._url) from error
