"""docs/concurrency.md names every function that writes to the object store or to MLflow, and no other."""

import ast
import re
from collections.abc import Iterator

from tests.paths import ROOT

PAGE = (ROOT / "docs/concurrency.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| `((?:tasks|flows)/[\w/]+\.py)`: (`[^|]+`) \|", re.MULTILINE)
# Of boto3 and MLflow's client, and of our own connectors where they are called.
_OF_CLIENTS = re.compile(
    r"(put|delete|copy)_objects?$|upload_(file|part)|(create|complete|abort)_multipart_upload|create_bucket"
    r"|(set|delete|create|update|finalize|log|rename|transition|restore|link)_(registered_|logged_)?(model|run|experiment)"
    r"|log_(batch|artifact|model|metric|param)|set_(terminated|tag)|delete_artifacts"
)
_OF_CONNECTORS = {
    "write_bytes", "upload", "make_bucket", "begin_write", "end_write", "mark_done", "set_alias", "remove_alias",
    "remove_tag", "describe_version", "register", "add_to_run", "close_dead_runs", "write", "delete", "remove",
    "append", "commit", "run",
}  # fmt: skip
_CONNECTORS = re.compile(r"objects|store\b|store\(|registry|_log\b|prepared|_client\b")


def writers() -> Iterator[tuple[str, str]]:
    """File and function of each call that writes."""
    for room in ("tasks", "flows"):
        for path in sorted((ROOT / room).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith("tasks/core/"):
                source = ast.parse(path.read_text(encoding="utf-8"))
                yield from ((name, function) for function in _writing(source, ""))


def _writing(node: ast.AST, inside: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        within = inside
        if isinstance(child, ast.FunctionDef):
            within = f"{inside}.{child.name}" if inside else child.name
        called = child.func if isinstance(child, ast.Call) else None
        if isinstance(called, ast.Attribute) and _writes(called.attr, ast.unparse(called.value)):
            yield within
        yield from _writing(child, within)


def _writes(method: str, of: str) -> bool:
    if _OF_CLIENTS.match(method):
        return "_client" in of or "client" in of or "repository" in of
    return method in _OF_CONNECTORS and (bool(_CONNECTORS.search(of)) or of == "self")


def named() -> set[tuple[str, str]]:
    """File and function of each row of the table."""
    return {
        (file, function)
        for file, functions in _ROW.findall(PAGE)
        for function in re.findall(r"`([\w.]+)`", functions)
    }


def test_every_writer_is_in_the_table_and_nobody_else() -> None:
    found = set(writers())
    assert found - named() == set(), "say in docs/concurrency.md what two at once do there"
    gone = {
        (file, function)
        for file, function in named() - found
        if f"def {function.rpartition('.')[2]}(" not in (ROOT / file).read_text(encoding="utf-8")
    }
    assert gone == set(), "of these there is nothing any more"


def test_a_writer_that_is_new_is_found() -> None:
    source = "class A:\n    def f(self):\n        self._objects.store.write_bytes(b'', 'x')\n"
    assert list(_writing(ast.parse(source), "")) == ["f"]
    source = (
        "def g(client):\n    client.put_object(Bucket='b')\n    client.get_object(Bucket='b')\n"
    )
    assert list(_writing(ast.parse(source), "")) == ["g"]
