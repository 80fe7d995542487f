"""Requests of foreign pages to MLflow are told from those of its own pages and of programs."""

from configparser import ConfigParser
from pathlib import Path

import pytest

from deployments.stack.tracking.mlflow_pages import authenticate, of_a_foreign_page
from deployments.stack.tracking.server import write_mlflow_accounts

HOST = {"Host": "127.0.0.1:5000"}
LINK = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {}),  # a program
        ("POST", {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:5000"}),
        ("GET", {"Sec-Fetch-Site": "none"} | LINK),  # typed
        ("GET", {"Sec-Fetch-Site": "same-site"} | LINK),  # a link on Prefect's page
        ("GET", {"Sec-Fetch-Site": "cross-site"} | LINK),
    ],
)
def test_programs_own_pages_and_links_are_let_through(method: str, headers: dict[str, str]) -> None:
    assert not of_a_foreign_page(method, HOST | headers)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}),  # another port
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}),
        ("GET", {"Sec-Fetch-Site": "same-site"} | LINK | {"Sec-Fetch-Dest": "iframe"}),
        ("POST", {"Sec-Fetch-Site": "same-site"} | LINK),  # a form
        ("POST", {"Origin": "http://127.0.0.1:5001"}),
        ("POST", {"Origin": "null"}),
        ("POST", {"Sec-Fetch-Site": "something new"}),
    ],
)
def test_a_foreign_page_is_told(method: str, headers: dict[str, str]) -> None:
    assert of_a_foreign_page(method, HOST | headers)


def test_mlflow_is_given_the_name_of_the_function(tmp_path: Path) -> None:
    write_mlflow_accounts(tmp_path / "basic_auth.ini", "sqlite:///accounts.db", "READ")
    read = ConfigParser()
    read.read(tmp_path / "basic_auth.ini")
    name = f"{authenticate.__module__}:{authenticate.__name__}"
    assert read["mlflow"]["authorization_function"] == name
