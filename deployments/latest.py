"""The tests on the newest releases: `make latest`.

It upgrades the environment it runs in to the newest release of each package that pyproject.toml names, whatever its
upper bounds, prints what differs from constraints.txt, and runs the tests. Torch stays: PyTorch's CPU builds are not on
the package index.

    python -m deployments.latest [pytest's arguments]
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from deployments.lock import CONSTRAINTS, ROOT, canonical

_EXTRAS = ("dev", "openvino", "lora")
_KEPT = ("torch",)
_UPPER_BOUNDS = ("<", "<=", "==", "~=")


def newest_requirements(pyproject: str) -> list[str]:
    """Return the requirements of pyproject.toml and of the extras of `make check`, without their upper bounds."""
    project = tomllib.loads(pyproject)["project"]
    lines = [*project["dependencies"]]
    for extra in _EXTRAS:
        lines += project["optional-dependencies"][extra]
    requirements = [Requirement(line) for line in lines]
    for requirement in requirements:
        lower = [s for s in requirement.specifier if s.operator not in _UPPER_BOUNDS]
        requirement.specifier = SpecifierSet(",".join(map(str, lower)))
    return [str(r) for r in requirements if r.name not in _KEPT]


def changes(pinned: Mapping[str, str], installed: Mapping[str, str]) -> list[str]:
    """Return one line for each installed package that has another version than its pin, or no pin."""
    return [
        f"{name}: {pinned.get(name, 'not pinned')} -> {version}"
        for name, version in sorted(installed.items())
        if version.partition("+")[0] != pinned.get(name)
    ]


def main(arguments: Sequence[str]) -> int:
    """Upgrade this environment and run the tests in it; return pytest's exit status."""
    pinned = _pinned(CONSTRAINTS.read_text(encoding="utf-8"))
    newest = newest_requirements((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    _uv("install", "--upgrade", *newest, *(f"{name}=={pinned[name]}" for name in _KEPT))
    listed = json.loads(_uv("list", "--format", "json", "--exclude-editable"))
    changed = changes(pinned, {canonical(p["name"]): p["version"] for p in listed})
    print("Other than constraints.txt:", *changed, sep="\n  ", flush=True)
    tests = subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, check=False)
    print(f"The tests {'failed' if tests.returncode else 'passed'} with these releases.")
    return tests.returncode


def _pinned(constraints: str) -> dict[str, str]:
    pins = (line.split("==") for line in constraints.split() if "==" in line)
    return {canonical(name): version for name, version in pins}


def _uv(*arguments: str) -> str:
    command = [sys.executable, "-m", "uv", "pip", *arguments, "--python", sys.executable]
    return subprocess.run(
        [*command, "--no-config", "--quiet"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
