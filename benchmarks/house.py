"""The structure of the code: packages, files, imports between packages, cycles, lines. `make house`.

    python -m benchmarks.house [--base COMMIT]

Rooms are the packages of the top two levels (flows, flows.forms, tasks.data, ..., tasks.core); those of `tasks.core`
are counted separately. Floors are the longest chain of imports between rooms. Exit status 1 if an aim is missed.
"""

import argparse
import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.commits import code_of

_PRODUCT = ("deployments", "flows", "tasks")
_MOST_ROOMS, _MOST_FLOORS, _MOST_FLAT, _MOST_LINES = 18, 8, 9, 300
_LAYERS = {"tasks.core": 0, "tasks.connectors": 1, "tasks": 2, "flows": 3, "deployments": 4}
#: Files that may be longer, and why.
_LONG = {"tasks.connectors.tracking.champion": "one protocol, to be read as a whole"}
Edges = Counter[tuple[str, str]]


class House:
    """The modules below a folder, and the imports between them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        paths = [p for top in _PRODUCT for p in (root / top).rglob("*.py")]
        self.modules = {_module(p.relative_to(root)): p for p in paths}
        # Programs may import anything, so they belong to no room.
        self.imports = [
            (module, other)
            for module, path in self.modules.items()
            for other in self._imported(path)
            if other != module and not module.endswith(".__main__")
        ]

    def _imported(self, path: Path) -> set[str]:
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                members = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= (members & self.modules.keys()) or {node.module}
        return names & self.modules.keys()

    def is_package(self, module: str) -> bool:
        """True if a module is an `__init__.py`."""
        return self.modules[module].name == "__init__.py"

    def package(self, module: str) -> str:
        """Return the package of a module; an `__init__.py` belongs to its own package."""
        return module if self.is_package(module) else module.rpartition(".")[0]

    def room(self, module: str, depth: int = 2) -> str:
        """Return the package of a module, cut to `depth` levels."""
        return ".".join(self.package(module).split(".")[:depth])

    def edges(self, below: str, depth: int) -> Edges:
        """Count the imports between the rooms below a package."""
        inside = [(a, b) for a, b in self.imports if a.startswith(below) and b.startswith(below)]
        pairs = [(self.room(a, depth), self.room(b, depth)) for a, b in inside]
        return Counter((a, b) for a, b in pairs if a != b)

    def flat(self) -> Counter[str]:
        """Count the files in each package, without its `__init__.py`."""
        return Counter(self.package(m) for m in self.modules if not self.is_package(m))

    def long_files(self) -> list[tuple[int, str]]:
        """Return the files that exceed the line limit."""
        sized = [(_lines([path]), module) for module, path in self.modules.items()]
        return sorted((s for s in sized if s[0] > _MOST_LINES and s[1] not in _LONG), reverse=True)

    def upward(self) -> list[str]:
        """Return the imports against the direction of the layers."""
        return [f"{a} imports {b}" for a, b in self.imports if _layer(a) < _layer(b)]


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _layer(module: str) -> int:
    return next(
        _LAYERS[name]
        for name in sorted(_LAYERS, key=len, reverse=True)
        if module == name or module.startswith(f"{name}.")
    )


def _lines(paths: Iterable[Path]) -> int:
    return sum(path.read_text(encoding="utf-8").count("\n") for path in paths)


def circles(edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return groups of two or more rooms that import one another, directly or through others."""
    reached = _reached(edges)
    groups = {
        tuple(sorted(b for b in others | {a} if a in reached.get(b, set())))
        for a, others in reached.items()
        if a in others
    }
    return sorted(list(group) for group in groups)


def _reached(edges: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    reached: dict[str, set[str]] = {}
    for a, b in edges:
        reached.setdefault(a, set()).add(b)
    while True:
        grown = {a: s.union(*(reached.get(b, set()) for b in s)) for a, s in reached.items()}
        if grown == reached:
            return reached
        reached = grown


def floors(edges: Iterable[tuple[str, str]]) -> int:
    """Return the number of rooms in the longest chain of imports; the rooms of a cycle count as one."""
    pairs = set(edges)
    group = {room: "|".join(c) for c in circles(pairs) for room in c}
    below: dict[str, set[str]] = {}
    for a, b in pairs:
        if group.get(a, a) != group.get(b, b):
            below.setdefault(group.get(a, a), set()).add(group.get(b, b))
    heights: dict[str, int] = {}

    def height(room: str) -> int:
        if room not in heights:
            heights[room] = 1 + max((height(b) for b in below.get(room, ())), default=0)
        return heights[room]

    return max((height(room) for room in below), default=1)


def _facts(house: House) -> Mapping[str, object]:
    flat, rooms = house.flat(), {house.room(m) for m in house.modules}
    edges, of_core = house.edges("", 2), house.edges("tasks.core.", 3)
    python = {
        top: [p for p in (house.root / top).rglob("*.py") if (house.root / top).exists()]
        for top in (*_PRODUCT, "tests", "benchmarks")
    }
    return {
        "rooms at the top two levels": len(rooms - {"tasks"}),
        "floors": floors(edges),
        "pairs of rooms with imports": len(edges),
        "imports between rooms": sum(edges.values()),
        "circles of rooms": len(circles(edges)),
        "imports upward": len(house.upward()),
        "rooms of tasks.core": len({house.room(m, 3) for m in house.modules if "core." in m}),
        "circles of rooms of tasks.core": len(circles(of_core)),
        "files flat in tasks/": flat["tasks"],
        "files flat in tasks/core/": flat["tasks.core"],
        "packages": len(flat),
        "files in the largest package": max(flat.values()),
        "files over 300 lines": len(house.long_files()),
        "lines of product": _lines(p for top in _PRODUCT for p in python[top]),
        "lines of tests": _lines(python["tests"]),
        "lines of benchmarks": _lines(python["benchmarks"]),
    }


_AIMS = {
    "rooms at the top two levels": _MOST_ROOMS,
    "floors": _MOST_FLOORS,
    "circles of rooms": 0,
    "imports upward": 0,
    "circles of rooms of tasks.core": 0,
    "files flat in tasks/": _MOST_FLAT,
    "files flat in tasks/core/": _MOST_FLAT,
    "files over 300 lines": 0,
}


def main() -> int:
    """Print the figures of this code, and of a commit beside them; return 1 if an aim is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.house")
    parser.add_argument("--base", default="", help="a commit to compare with")
    given = parser.parse_args()
    with code_of("") as root:
        house = House(root)
    facts, before = _facts(house), {}
    if given.base:
        with code_of(given.base) as root:
            before = _facts(House(root))
    missed = [name for name, most in _AIMS.items() if int(str(facts[name])) > most]
    table = Table("", *(["before"] if before else []), "now", "aim")
    for name, value in facts.items():
        aim = f"at most {_AIMS[name]}" if name in _AIMS else ""
        row = [name, *([str(before[name])] if before else []), str(value), aim]
        table.add_row(*row, style="red" if name in missed else None)
    console = Console(width=100)
    console.print(table)
    for a, b in house.edges("", 2):
        if b in {c for group in circles(house.edges("", 2)) for c in group if a in group}:
            console.print(f"in a circle: {a} -> {b}")
    edges = house.edges("tasks.core.", 3)
    for group in circles(edges):
        for a, b in edges:
            if a in group and b in group:
                console.print(f"in a circle: {a} -> {b} ({edges[a, b]})")
    for name, count in house.flat().most_common():
        if count > _MOST_FLAT:
            console.print(f"{count} files in {name}")
    for lines, module in house.long_files():
        console.print(f"{lines} lines in {module}")
    for line in house.upward():
        console.print(line)
    if given.base:
        command = ["git", "diff", "--shortstat", "-M", given.base, "--", *_PRODUCT, "tests"]
        console.print(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    console.print(f"missed: {', '.join(missed)}" if missed else "all aims are met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
