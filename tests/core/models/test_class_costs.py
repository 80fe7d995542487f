"""Class costs: as people type them, in the head of a model of any kind, and in the labels of every engine."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.decision import predict_labels, with_costs, without_costs
from tasks.core.engines import registry
from tasks.core.engines.protocol import EngineOptions, softmax
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.errors import ModelError, SettingsError
from tasks.core.models import classifier as modeling
from tasks.core.models import head
from tasks.core.models.class_costs import costs_of_labels, parse_class_costs
from tests.core.models.tiny_classifiers import DECODERS, ENCODERS, tiny_classifier

ROWS = [[5, 6, 7, 8], [9] * 12, [10, 11], [7, 5, 9, 30, 31, 32, 6]]


def test_a_label_has_its_cost_in_any_spelling() -> None:
    assert costs_of_labels("negative=5", ["NEGATIVE", "POSITIVE"]) == [5, 1]
    assert costs_of_labels("2=0.5, 1.0=4", ["1", "2", "3"]) == [4, 0.5, 1]
    assert costs_of_labels("", ["a", "b"]) == costs_of_labels("a=2, b=2", ["a", "b"]) == []
    assert costs_of_labels("a=3, A=3", ["a", "b"]) == [3, 1]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("NEGATVE=5", r"No label is called 'NEGATVE'; the labels are NEGATIVE, POSITIVE "),
        ("NEGATIVE=5, negative=4", "'NEGATIVE' has two costs"),
    ],
)
def test_a_typo_is_an_error_that_names_the_labels(typed: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        costs_of_labels(typed, ["NEGATIVE", "POSITIVE"])


@pytest.mark.parametrize("cost", ["much", "0", "-1", "nan", "inf", "1e9", "-"])
def test_a_cost_is_a_positive_number(cost: str) -> None:
    with pytest.raises(ValueError, match=r"the cost of 'a' is .* write such as NEGATIVE=5"):
        parse_class_costs(f"a={cost}")


@given(
    st.lists(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), min_size=1, max_size=20),
    st.lists(st.floats(0.01, 100), min_size=3, max_size=3),
)
def test_the_label_has_the_least_expected_cost(rows: list[list[float]], costs: list[float]) -> None:
    probabilities = np.array(rows) / np.sum(rows, axis=1, keepdims=True)
    answers = with_costs(probabilities, costs)
    # The expected cost of a label is the sum of the costs of the other classes, times their probabilities.
    expected = (probabilities * costs).sum(axis=1, keepdims=True) - probabilities * costs
    chosen = np.take_along_axis(expected, predict_labels(answers)[:, None], axis=1)
    assert np.allclose(chosen, expected.min(axis=1, keepdims=True))
    assert np.allclose(answers.sum(axis=1), 1)
    assert np.allclose(without_costs(answers, costs), probabilities)


def test_without_costs_nothing_is_computed() -> None:
    probabilities = np.array([[0.3, 0.7]])
    assert with_costs(probabilities, ()) is without_costs(probabilities, ()) is probabilities


@pytest.mark.parametrize("architecture", [*ENCODERS, *DECODERS])
def test_any_head_takes_them_and_keeps_them(architecture: str, bert: Path, tmp_path: Path) -> None:
    plain = TorchEngine(tiny_classifier(architecture, bert), "cpu", "fp32").logits(ROWS)
    expected = with_costs(softmax(plain), [8.0, 1.0])
    shifted = modeling.with_class_costs(tiny_classifier(architecture, bert), [8.0, 1.0])
    assert head.lacks_bias(shifted.model, 2) == (architecture in DECODERS)
    modeling.save(shifted, tmp_path)
    loaded = modeling.load(tmp_path)
    assert loaded.class_costs == (8.0, 1.0)
    for one in (shifted, loaded):
        found = softmax(TorchEngine(one, "cpu", "fp32").logits(ROWS))
        np.testing.assert_allclose(found, expected, atol=1e-5)
    again = tmp_path / "again"
    modeling.save(loaded, again)
    found = softmax(TorchEngine(modeling.load(again), "cpu", "fp32").logits(ROWS))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(ValueError, match="it has the class costs"):
        modeling.with_class_costs(loaded, [1.0, 2.0])


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_another_engine_has_them_too(architecture: str, bert: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    shifted = modeling.with_class_costs(tiny_classifier(architecture, bert), [8.0, 1.0])
    modeling.save(shifted, tmp_path)
    classifier = modeling.load(tmp_path)
    folder = tmp_path / registry.FOLDER / "openvino"
    folder.mkdir(parents=True)
    kind = registry.kind_of("openvino")
    kind.build(classifier, folder, ROWS)
    options = EngineOptions(device="cpu", precision="fp32")
    logits = registry.open_engine("openvino", classifier, tmp_path, options).logits(ROWS)
    expected = TorchEngine(classifier, "cpu", "fp32").logits(ROWS)
    np.testing.assert_allclose(softmax(logits), softmax(expected), atol=1e-3)
    other = modeling.with_class_costs(tiny_classifier(architecture, bert), [1.0, 8.0])
    with pytest.raises(ModelError, match="not a build of the engine openvino for this model"):
        registry.open_engine("openvino", other, tmp_path, options)


def test_a_model_without_costs_is_saved_as_before(bert: Path, tmp_path: Path) -> None:
    modeling.save(tiny_classifier("bert", bert), tmp_path)
    assert "class_costs" not in (tmp_path / modeling.CARD).read_text()
    assert modeling.load(tmp_path).class_costs == ()


@pytest.mark.parametrize("costs", [(1.0, 2.0, 3.0), (1.0, float("nan")), (0.0, 1.0)])
def test_damaged_costs_are_an_error(costs: tuple[float, ...], bert: Path, tmp_path: Path) -> None:
    modeling.save(replace(tiny_classifier("bert", bert), class_costs=costs), tmp_path)
    with pytest.raises(ModelError, match=r"class_costs .* for 2 labels"):
        modeling.load(tmp_path)
