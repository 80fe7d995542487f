"""The workers' MLflow account, with the permissions they need and no more.

They may write to the experiment and to the default model, and read everything else. A model that they register under
another name is theirs: MLflow makes its creator the owner. They cannot change accounts, nor experiments and models that
people made.
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
        url: the server's URL.
        name: the administrator's name.
        password: the administrator's password.
    Raises:
        ServiceError: from every method, if MLflow refuses or is unavailable.
    """

    def __init__(self, url: str, name: str, password: str) -> None:
        self._url = url
        proof = base64.b64encode(f"{name}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {proof}", "Content-Type": "application/json"}

    def make_worker(self, name: str, password: str, experiment: str, model: str) -> None:
        """Create the account, or set its password again, and allow it to write to its experiment and model.

        Args:
            name: the account's name.
            password: the account's password.
            experiment: its name; created if it does not exist.
            model: the name of a registered model; created if it does not exist.
        """
        if self._ask("GET", "2.0/mlflow/users/get", username=name) is None:
            self._ask("POST", "2.0/mlflow/users/create", username=name, password=password)
        else:
            credentials = {"username": name, "password": password}
            self._ask("PATCH", "2.0/mlflow/users/update-password", **credentials)
        self._grant(name, "experiment", self._experiment(experiment))
        # For a model that does not exist, MLflow answers everybody except administrators that permission is denied.
        if self._ask("GET", "2.0/mlflow/registered-models/get", name=model) is None:
            self._ask("POST", "2.0/mlflow/registered-models/create", name=model)
        self._grant(name, "registered_model", model)

    def _grant(self, name: str, kind: str, resource: str) -> None:
        grant = {"username": name, "resource_type": kind, "resource_id": resource}
        self._ask("POST", "3.0/mlflow/users/permissions/grant", **grant, permission="EDIT")

    def _experiment(self, name: str) -> str:
        answer = self._ask("GET", "2.0/mlflow/experiments/get-by-name", experiment_name=name)
        if answer is None:
            return str(
                self._ask("POST", "2.0/mlflow/experiments/create", name=name)["experiment_id"]
            )
        return str(answer["experiment"]["experiment_id"])

    def _ask(self, method: str, path: str, **fields: str) -> Any:
        """Return the answer; None if the requested thing does not exist, or the thing to be created already does."""
        url, content = f"{self._url}/api/{path}", None
        if method == "GET":
            url += f"?{urllib.parse.urlencode(fields)}"
        else:
            content = json.dumps(fields).encode()
        request = urllib.request.Request(url, content, self._headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            message = error.read().decode(errors="replace")[:300]
            if error.code == 404 or "RESOURCE_ALREADY_EXISTS" in message:
                return None
            raise ServiceError(
                f"MLflow refuses {path} ({error.code}): {message}", self._url
            ) from error
        except OSError as error:
            raise ServiceError(f"MLflow does not answer: {error}", self._url) from error
