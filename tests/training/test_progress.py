"""What the log of a training says of its steps."""

import logging
import time
from typing import Any

import pytest

from tasks.training.progress import Listener


class NoRun:
    """Stands for an MLflow run, to which steps send nothing."""


def test_a_resumed_training_goes_on_from_its_step(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tasks")
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    run: Any = NoRun()
    listener = Listener(run)
    for step in range(501, 556):
        listener.on_step(step, 600)
        now[0] += 1
    assert caplog.messages == [
        "Training is under way: step 501 of 600",
        "Step 526 of 600, 1.0 a second; 88% done, about 74 s left",
        "Step 551 of 600, 1.0 a second; 92% done, about 49 s left",
    ]
