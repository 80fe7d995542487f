"""The temperature: found again where it is known, never moved to certainty by few reviews, and kept with the model."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.data.params import TokenizationParams
from tasks.core.engines.protocol import softmax
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.models import classifier
from tasks.core.models.calibration import fit_temperature


def drawn(temperature: float, rows: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels as likely as the logits divided by the temperature say."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, (rows, classes)).astype(np.float32)
    chances = softmax(logits / temperature).cumsum(axis=1)
    labels = (rng.random((rows, 1)) > chances).sum(axis=1)
    return logits, np.minimum(labels, classes - 1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("classes", [2, 5])
def test_a_known_temperature_is_found(temperature: float, classes: int) -> None:
    fitted = fit_temperature(*drawn(temperature, 20_000, classes, seed=1))
    assert fitted == pytest.approx(temperature, rel=0.05)


def test_a_few_right_answers_are_no_reason_for_certainty() -> None:
    logits = np.array([[0.0, 2.0], [2.0, 0.0]] * 4, dtype=np.float32)
    labels = np.array([1, 0] * 4)
    assert 0.3 < fit_temperature(logits, labels) < 1.0


@given(st.integers(0, 1000), st.floats(0.2, 5))
def test_no_answer_changes_and_the_loss_does_not_rise(seed: int, temperature: float) -> None:
    logits, labels = drawn(temperature, 400, 3, seed)
    fitted = fit_temperature(logits, labels)
    before, after = softmax(logits), softmax(logits / fitted)
    assert (before.argmax(axis=1) == after.argmax(axis=1)).all()
    rows = np.arange(400)
    prior = 0.5 * (np.log(fitted) / 0.5) ** 2
    loss = [-np.log(p[rows, labels] + 1e-300).sum() for p in (before, after)]
    assert loss[1] + prior <= loss[0] + 1e-3


def test_what_does_not_match_is_refused() -> None:
    with pytest.raises(ValueError, match="do not match"):
        fit_temperature(np.zeros((3, 2), dtype=np.float32), np.zeros(2, dtype=np.int64))
    with pytest.raises(ValueError, match="do not match"):
        fit_temperature(np.zeros((0, 2), dtype=np.float32), np.zeros(0, dtype=np.int64))


@pytest.mark.parametrize("base", ["bert", "gpt2"])
def test_it_is_kept_in_the_head_and_divides_the_logits(
    base: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    params = TokenizationParams(max_length_tokens=32)
    folder: Path = request.getfixturevalue(base)
    made = classifier.load_for_training(folder, ["NEGATIVE", "POSITIVE"], params, 0.0)
    rows = made.encoder.encode(["The plot was dull.", "The cast was superb and funny."]).input_ids
    before = TorchEngine(made, "cpu", "fp32").logits(rows)
    classifier.save(classifier.with_temperature(made, 1.75), tmp_path)
    loaded = classifier.load(tmp_path)
    assert loaded.temperature == 1.75
    after = TorchEngine(loaded, "cpu", "fp32").logits(rows)
    np.testing.assert_allclose(after * 1.75, before, rtol=1e-5, atol=1e-6)
