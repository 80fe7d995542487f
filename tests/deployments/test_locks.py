"""Nothing is installed whose hash is not in a lock file, and the lock files say what constraints.txt says."""

import re
import subprocess
import sys
import tomllib
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from deployments.lock import FOLDER, ROOT, SETS, canonical, entries

LOCKS = sorted(FOLDER.glob("*.txt"))
SCRIPTS = [ROOT / "Makefile", *(ROOT / "deployments").glob("*.sh")]
CONSTRAINTS = {
    canonical(name): version
    for name, _, version in (
        line.partition("==") for line in (ROOT / "constraints.txt").read_text().splitlines()
    )
}
# Of other platforms and Pythons, and of torch's default build: the environment of constraints.txt has none of them.
ELSEWHERE = {"async-timeout", "httpx2-jsfetch", "pywin32", "waitress", "whenever"}
OF_CUDA = re.compile(r"triton|nvidia-.+|cuda-.+")


def locked(path: Path) -> dict[str, str]:
    return entries(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", LOCKS, ids=lambda p: p.stem)
def test_every_package_has_one_version_and_hashes(path: Path) -> None:
    assert path.stem in {*SETS, "torch-cpu"} and locked(path)
    for name, entry in locked(path).items():
        lines = entry.splitlines()
        assert re.match(r"[\w.-]+==[\w.+]+( ;|( \\)?$)", lines[0]), name
        assert lines[1:] and all(
            re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in lines[1:]
        )
    assert "://" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", LOCKS, ids=lambda p: p.stem)
def test_versions_are_those_of_the_constraints(path: Path) -> None:
    for name, entry in locked(path).items():
        if name not in ELSEWHERE and not OF_CUDA.fullmatch(name):
            version = entry.split("==")[1].split()[0].removesuffix("+cpu")
            assert version == CONSTRAINTS[name], name


def test_what_the_project_asks_for_is_locked() -> None:
    """Who adds a dependency and forgets `make lock` learns of it here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {"flows": project["dependencies"], "dev": project["optional-dependencies"]["dev"]}
    for name, extras in (("engines", ("openvino", "lora")), ("docker", ("docker",))):
        asked[name] = [r for e in extras for r in project["optional-dependencies"][e]]
    asked["extras"] = [
        r for e in ("ha", "browser", "ray", "dask") for r in project["optional-dependencies"][e]
    ]
    for name, requirements in asked.items():
        there = {
            package: entry.split("==")[1].split()[0]
            for other in (*SETS[name].on_top_of, name)
            for package, entry in locked(FOLDER / f"{other}.txt").items()
        }
        for requirement in map(Requirement, requirements):
            assert requirement.specifier.contains(there[canonical(requirement.name)]), requirement


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_an_installation_demands_hashes(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        code = line.split("#")[0]
        if re.search(r"\bpip\b.*\binstall\b", code) and "-e ." not in code:
            assert "--no-deps --require-hashes" in re.sub(r"\s+", " ", code), line
    assert "-c constraints.txt" not in path.read_text(encoding="utf-8")


def test_a_package_that_is_another_is_not_installed(tmp_path: Path) -> None:
    wheel = tmp_path / "harmless-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("harmless.py", "")
        for name, content in (
            ("METADATA", "Metadata-Version: 2.1\nName: harmless\nVersion: 1.0\n"),
            ("WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
            ("RECORD", ""),
        ):
            archive.writestr(f"harmless-1.0.dist-info/{name}", content)
    digest = sha256(wheel.read_bytes()).hexdigest()
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(tmp_path)]
    command += ["--no-deps", "--require-hashes", "--target", str(tmp_path / "site")]
    for given, installed in (("0" * 64, False), (digest, True)):
        lock = tmp_path / "lock.txt"
        lock.write_text(f"harmless==1.0 \\\n    --hash=sha256:{given}\n")
        done = subprocess.run([*command, "-r", str(lock)], capture_output=True, text=True)
        assert (done.returncode == 0) == installed == (tmp_path / "site/harmless.py").exists()
        assert installed or "DO NOT MATCH THE HASHES" in done.stderr
