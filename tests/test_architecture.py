"""Imports point one way: deployments, flows, tasks/*.py, tasks/connectors, tasks/core. Core knows nothing else."""

import ast
import re
from pathlib import Path

import pytest

from tests.paths import ROOT

OUTSIDE = {
    "prefect",
    "boto3",
    "botocore",
    "mlflow",
    "requests",
    "httpx",
    "httpx2",
    "urllib",
    "socket",
    "huggingface_hub",
    "pydantic_settings",
}
WORLD = {"boto3", "botocore", "mlflow"}
#: In the image of MLflow's server, where nothing else of ours is.
ALONE = {"deployments.stack.tracking.mlflow_pages"}
CORE_OF_CONNECTORS = {
    "blame",  # whatever a file raises, as an error that names it
    "errors",
    "records",
    "digests",
    "data.labels",
    "data.label_map",  # what a form says of labels and of files
    "data.splits.split_names",
    "data.usable_rows",
    "data.validation",
    "formats",
    "forms",
    "parsing.pairs",
    "readable",
    "parsing.uris",
    "tags",
}
SOURCES = sorted(
    p for room in ("deployments", "flows", "tasks") for p in (ROOT / room).rglob("*.py")
)


def module_of(path: Path) -> str:
    """The dotted name of a module of ours."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path) for path in SOURCES}


def room_of(name: str) -> str:
    """deployments, flows, shell, connectors or core; '' for what is not ours."""
    parts = name.split(".")
    if parts[0] in ("deployments", "flows"):
        return parts[0]
    if parts[0] != "tasks":
        return ""
    return parts[1] if len(parts) > 1 and parts[1] in ("core", "connectors") else "shell"


def imported(source: str) -> set[str]:
    """Every module a source names in an import, wherever it stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (members & MODULES) or {node.module}
    return names


def violations(module: str, source: str) -> list[str]:
    """What a module's imports break of the rule."""
    allowed = {
        "core": {"core"},
        "connectors": {"core", "connectors"},
        "shell": {"core", "connectors", "shell"},
        "flows": {"core", "connectors", "shell", "flows"},
        "deployments": {"core", "connectors", "shell", "flows", "deployments"},
    }
    room = room_of(module)
    broken: list[str] = []
    for name in sorted(imported(source)):
        if room_of(name) and room_of(name) not in allowed[room]:
            broken.append(f"{module} imports {name}")
        if room == "core" and name.split(".")[0] in OUTSIDE:
            broken.append(f"{module} imports {name}")
        if room != "connectors" and name.split(".")[0] in WORLD and module not in ALONE:
            broken.append(f"{module} imports {name}, which only connectors do")
        if room == "connectors" and name.split(".")[0] == "prefect":
            broken.append(f"{module} imports {name}")
        of_core = f"{name.removeprefix('tasks.core.')}." if name.startswith("tasks.core.") else ""
        allowed_of_core = tuple(f"{module}." for module in CORE_OF_CONNECTORS)
        if room == "connectors" and of_core and not of_core.startswith(allowed_of_core):
            broken.append(f"{module} imports {name}, which is more than records and rows")
    return broken


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_point_one_way(path: Path) -> None:
    module = module_of(path)
    assert violations(module, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "tasks.core.evaluation.metrics",
            "from tasks.connectors.storage.object_store import ObjectStore",
        ),
        ("tasks.core.evaluation.metrics", "def f():\n    import mlflow"),
        ("tasks.core.evaluation.metrics", "from tasks.runtime import settings"),
        ("tasks.connectors.model_hub", "from tasks.runtime.steps import fetched"),
        ("tasks.connectors.model_hub", "from prefect import task"),
        ("tasks.connectors.model_hub", "from tasks.core.training import fine_tuning"),
        ("tasks.scoring.shards", "from flows.score import score"),
        ("flows.retrain", "from deployments.apply import apply"),
        ("tasks.runtime.settings", "import boto3"),
        ("flows.history", "def f():\n    from mlflow import MlflowClient"),
    ],
)
def test_an_import_turned_round_is_found(module: str, source: str) -> None:
    assert violations(module, source)


def reads_environment(source: str) -> bool:
    """Whether a source names os.environ or os.getenv in any way."""
    nodes = list(ast.walk(ast.parse(source)))
    named = {n.attr for n in nodes if isinstance(n, ast.Attribute)}
    named |= {
        a.name for n in nodes if isinstance(n, ast.ImportFrom) and n.module == "os" for a in n.names
    }
    return bool(named & {"environ", "getenv", "putenv"})


def test_only_settings_and_services_touch_the_environment() -> None:
    """Of what runs in a flow; `deployments` makes the environments of other processes."""
    allowed = {
        "tasks/runtime/settings.py",
        "tasks/runtime/local_services.py",
        "tasks/connectors/servers/local_servers.py",
    }
    allowed.add("tasks/connectors/servers/seaweedfs.py")
    touching = {
        p.relative_to(ROOT).as_posix()
        for p in SOURCES
        if room_of(p.relative_to(ROOT).parts[0]) != "deployments"
        and reads_environment(p.read_text(encoding="utf-8"))
    }
    assert touching == allowed
    assert reads_environment("from os import environ") and reads_environment("import os\nos.getenv")


def test_labels_are_decided_in_one_module() -> None:
    """`predict_labels` is the decision rule; what else takes the largest of a row goes past it."""
    decides = re.compile(r"\.argmax\((?:axis|dim)=-?1\)|argmax\(1\)")
    found = [
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        if decides.search(path.read_text(encoding="utf-8"))
    ]
    assert found == ["tasks/core/decision.py"]


def test_names_of_tags_are_in_one_module() -> None:
    """In MLflow; attributes of Optuna's trials and studies have names of their own."""
    others = {"core/tags.py", "core/training/tuning/trials.py", "connectors/storage/studies.py"}
    others.add("core/models/classifier.py")  # nightshift.json
    named = {
        path.relative_to(ROOT / "tasks").as_posix()
        for path in SOURCES
        if path.is_relative_to(ROOT / "tasks")
        and re.search(r"[\"']nightshift\.[a-z_]+[\"']", path.read_text(encoding="utf-8"))
    }
    assert named == others


def test_no_module_hides_a_library() -> None:
    """Prefect puts a flow's folder on sys.path."""
    import sys

    taken = set(sys.stdlib_module_names) | {
        "datasets",
        "mlflow",
        "prefect",
        "torch",
        "transformers",
        "tokenizers",
    }
    assert not {p.stem for p in SOURCES if p.stem not in ("__init__", "__main__")} & taken
