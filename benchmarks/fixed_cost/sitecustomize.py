"""Make scoring use a model that only takes time. Python imports this module if its folder is on PYTHONPATH.

So a benchmark also reaches processes that it does not start itself: those of a pool's workers, and Ray's and Dask's. It
imports nothing before the module that it changes is imported.
"""

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType, SimpleNamespace
from typing import Any

_SECONDS = "BENCH_SECONDS_A_REVIEW"
_MODULE = "tasks.scoring.shards"


class _Finder(MetaPathFinder):
    """Finds the module as usual, and changes it once it has been imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path)
        if spec and spec.loader:
            loader: Any = spec.loader
            original, seconds = loader.exec_module, float(os.environ[_SECONDS])

            def exec_module(module: ModuleType) -> None:
                original(module)
                from benchmarks.faults.parts import CharacterEncoder, TextEngine

                loaded = (
                    SimpleNamespace(encoder=CharacterEncoder(), class_costs=()),
                    TextEngine(seconds),
                )
                module.__dict__["_loaded"] = lambda *_: loaded

            loader.exec_module = exec_module
        return spec


if os.environ.get(_SECONDS):
    sys.meta_path.insert(0, _Finder())
