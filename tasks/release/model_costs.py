"""The cost of running a model: its parameters, and reviews per second."""

import time
from contextlib import ExitStack

import numpy as np

from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.models.classifier import Classifier
from tasks.registry.models import JudgedModel, opened

_ROUNDS = 5


def count_parameters(model: JudgedModel, label_names: list[str]) -> int:
    """Return the number of parameters of a model."""
    with opened(model, label_names) as classifier:
        return sum(parameter.numel() for parameter in classifier.model.parameters())


def reviews_per_second(
    models: list[JudgedModel], label_names: list[str], texts: list[str]
) -> list[float]:
    """Measure the reviews per second of each model on this machine, in turns.

    Returns:
        The median of several rounds for each model. A first warm-up round does not count.
    """
    with ExitStack() as stack:
        return _in_turns([stack.enter_context(opened(m, label_names)) for m in models], texts)


def _in_turns(classifiers: list[Classifier], texts: list[str]) -> list[float]:
    runners = [(TorchEngine(c), c.encoder) for c in classifiers]
    seconds: list[list[float]] = [[] for _ in runners]
    for _ in range(_ROUNDS + 1):
        for taken, (engine, encoder) in zip(seconds, runners, strict=True):
            started = time.perf_counter()
            engine.logits(encoder.encode(texts).input_ids)
            taken.append(time.perf_counter() - started)
    return [len(texts) / float(np.median(taken[1:])) for taken in seconds]
