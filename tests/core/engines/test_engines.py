"""The contract of scoring engines: whatever runs a model gives the answers of torch in fp32, padded.

Every engine of the registry whose packages are installed is tried on several architectures. What an engine wants of a
tolerance of its own stands in `TOLERANCES`, as a share of the range of the logits.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tasks.core.engines import registry
from tasks.core.engines.protocol import Engine, EngineOptions
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.errors import ModelError, SettingsError
from tasks.core.models import classifier
from tests.core.models.tiny_classifiers import DECODERS, ENCODERS, LONGEST, saved, tiny_classifier

EXACT = 2e-3
TOLERANCES = {"openvino-int8": 0.25, "cascade": 0.25, "cascade-bf16": 0.05}
CPU = torch.device("cpu")


def random_rows(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [generator.integers(5, 280, n).tolist() for n in lengths]


ROWS = random_rows([40, 1, 2, LONGEST, 7, 7, 63, 3, 12, 7, 30, LONGEST, 1, 55])


class Case:
    """An engine built for a model."""

    def __init__(self, name: str, architecture: str, tokenizer: Path, folder: Path) -> None:
        self.kind = registry.require(name)
        self.folder = saved(tiny_classifier(architecture, tokenizer), folder / "model")
        if reason := self.kind.suits(classifier.load(self.folder), CPU):
            pytest.skip(reason)
        built = self.folder / registry.FOLDER / name
        built.mkdir(parents=True)
        self.kind.build(classifier.load(self.folder), built, random_rows([9, 30, LONGEST] * 8, 1))
        padded = TorchEngine(classifier.load(self.folder), "cpu", "fp32", 256, packed=False)
        self.expected = padded.logits(ROWS)
        self.tolerance = TOLERANCES.get(name, EXACT) * float(np.ptp(self.expected))
        self.engine = self.open()

    def open(self, **options: object) -> Engine:
        """The engine anew."""
        given = EngineOptions(**({"device": "cpu", "precision": "fp32"} | options))  # pyright: ignore[reportArgumentType]
        return registry.open_engine(
            self.kind.name, classifier.load(self.folder), self.folder, given
        )

    def assert_alike(self, found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
        """The same logits within the tolerance, and the same labels but for ties."""
        assert found.shape == expected.shape and found.dtype == np.float32
        assert np.abs(found - expected).max() <= self.tolerance
        clear = np.abs(expected[:, 0] - expected[:, 1]) > 2 * self.tolerance
        assert (found.argmax(1) == expected.argmax(1))[clear].all()


def cases() -> list[object]:
    """Every engine on every architecture; of those that must be exported, one of each kind where time is short."""
    quick = {"bert", "llama"}
    return [
        pytest.param(
            (name, architecture),
            id=f"{name}-{architecture}",
            marks=[] if name == registry.TORCH or architecture in quick else pytest.mark.slow,
        )
        for name in registry.kinds()
        for architecture in (*ENCODERS, *DECODERS)
    ]


@pytest.fixture(scope="module", params=cases())
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    name, architecture = request.param
    if missing := registry.missing_packages(name):
        pytest.skip(f"{', '.join(missing)} is not installed")
    tokenizer = request.getfixturevalue("bert" if architecture in ENCODERS else "gpt2")
    return Case(name, architecture, tokenizer, tmp_path_factory.mktemp(name))


def test_the_answers_are_those_of_fp32(case: Case) -> None:
    """Of rows of any length, in their order."""
    case.assert_alike(case.engine.logits(ROWS), case.expected)
    assert np.ptp(case.expected[:, 0] - case.expected[:, 1]) > 0.1  # the model tells rows apart


def test_any_size_of_batch_will_do(case: Case) -> None:
    for batch_tokens in (1, 70):
        case.assert_alike(case.open(batch_tokens=batch_tokens).logits(ROWS), case.expected)


def test_a_row_does_not_mind_its_neighbours(case: Case) -> None:
    for number in (0, 1, 3, 7):
        case.assert_alike(case.engine.logits([ROWS[number]]), case.expected[[number]])
    backwards = case.engine.logits(ROWS[::-1])[::-1]
    case.assert_alike(backwards, case.expected)


def test_rows_that_come_again_get_the_same_answer(case: Case) -> None:
    again = case.engine.logits([*ROWS, *ROWS])
    case.assert_alike(again[: len(ROWS)], case.expected)
    case.assert_alike(again[len(ROWS) :], case.expected)


def test_no_rows_give_no_logits(case: Case) -> None:
    nothing = case.engine.logits([])
    assert nothing.shape == (0, 2) and nothing.dtype == np.float32
    assert case.engine.label_names == ["NEGATIVE", "POSITIVE"]


def test_one_row_or_many_of_one_token(case: Case) -> None:
    rows = random_rows([1] * 300, seed=2)
    many = case.engine.logits(rows)
    assert many.shape == (300, 2)
    case.assert_alike(many[:1], case.engine.logits(rows[:1]))


def test_an_engine_that_is_not_there_is_said_so(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="No scoring engine 'abacus'"):
        registry.require("abacus")
    monkeypatch.setitem(registry._MODULES, "absent", "tests.core.engines.absent_engine")
    assert not registry.available("absent") and registry.available("torch")
    with pytest.raises(SettingsError, match=r"no_such_package.*nightshift\[absent\]"):
        registry.open_engine("absent", tiny_classifier("bert", bert), tmp_path, EngineOptions())


def test_a_model_that_was_registered_without_an_engine(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._MODULES, "other", "tasks.core.engines.torch_engine")
    with pytest.raises(ModelError, match="registered without the engine other"):
        registry.open_engine("other", tiny_classifier("bert", bert), tmp_path, EngineOptions())


def test_what_was_found_best_is_read(tmp_path: Path) -> None:
    assert registry.recommended(tmp_path) == "torch"
    (tmp_path / registry.CHOICE).write_text('{"chosen": "openvino"}', encoding="utf-8")
    assert registry.recommended(tmp_path) == "openvino"
    (tmp_path / registry.CHOICE).write_text("[]", encoding="utf-8")
    with pytest.raises(ModelError, match="record of the model's engine choice cannot be read"):
        registry.recommended(tmp_path)


def test_the_form_offers_every_engine() -> None:
    from typing import get_args

    from tasks.core.engines.registry import EngineName

    assert set(registry.kinds()) == set(get_args(EngineName))
