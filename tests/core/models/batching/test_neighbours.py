"""No answer depends on the texts beside it: how that is found out, and obeyed wherever batches are formed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.engines import build_record, registry
from tasks.core.engines.protocol import EngineOptions
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.errors import ModelError, SettingsError
from tasks.core.models import classifier as modeling
from tasks.core.models.batching import neighbours
from tasks.core.models.batching import plan as batching
from tasks.core.models.batching.plan import BatchRule, Side
from tasks.core.models.classifier import Classifier
from tests.core.training.tiny_trainings import trained
from tests.neighbours.tiny import LONGEST, tiny, tiny_base

CPU = EngineOptions(device="cpu", precision="fp32")


@pytest.fixture
def folders(bert: Path, gpt2: Path) -> dict[str, Path]:
    return {"bert": bert, "gpt2": gpt2}


def texts(classifier: Classifier, count: int = 60) -> list[list[int]]:
    generator = np.random.default_rng(1)
    words, (before, after) = len(classifier.encoder.tokenizer), classifier.encoder.frame
    lengths = generator.integers(1, LONGEST - 1, count)
    return [[*before, *generator.integers(5, words, n).tolist(), *after] for n in lengths]


def assert_heeds_nobody(engine: Any, rows: list[list[int]]) -> None:
    """What it says of texts together is what it says of each alone."""
    together, backwards = engine.logits(rows), engine.logits(rows[::-1])[::-1]
    alone = np.concatenate([engine.logits([row]) for row in rows])
    close = 5e-4 * np.ptp(alone) + 2e-5 * np.abs(alone).max()
    assert np.abs(together - alone).max() <= close
    assert np.abs(backwards - alone).max() <= close


@pytest.mark.parametrize(
    ("architecture", "rule", "side"),
    [
        ("bert", "padded", "right"),
        ("distilbert", "padded", "right"),
        ("roberta", "padded", "right"),
        ("big_bird", "padded", "right"),
        ("gpt2", "padded", "right"),
        ("gemma", "padded", "left"),
        ("xlnet", "padded", "left"),
        ("t5", "padded", "right"),
        ("fnet", "equal lengths", "right"),
        ("convbert", "equal lengths", "right"),
        ("nystromformer", "equal lengths", "right"),
    ],
)
def test_what_heeds_its_neighbours_is_batched_without_harm(
    architecture: str, rule: BatchRule, side: Side, folders: dict[str, Path]
) -> None:
    classifier = neighbours.with_batch_rule(tiny(architecture, folders))
    assert (classifier.batch_rule, classifier.padding_side) == (rule, side)
    assert_heeds_nobody(TorchEngine(classifier, "cpu", "fp32"), texts(classifier))


def test_the_side_that_is_right_is_found(folders: dict[str, Path]) -> None:
    """Of XLNet, whose tokenizer says right, and of GPT-2, whose tokenizer says left: its positions count padding."""
    for architecture, wrong, right in (("xlnet", "right", "left"), ("gpt2", "left", "right")):
        classifier = tiny(architecture, folders)
        classifier.encoder.tokenizer.padding_side = wrong
        found = neighbours.with_batch_rule(classifier)
        assert (found.batch_rule, found.padding_side) == ("padded", right)


def test_a_model_that_minds_equal_lengths_is_scored_alone(bert: Path, gpt2: Path) -> None:
    """Such as one whose experts have room for so many tokens of a batch."""
    classifier = tiny("bert", {"bert": bert, "gpt2": gpt2})

    def mixes(_: Any, __: Any, output: Any) -> Any:
        return output + output.mean(dim=0, keepdim=True)

    handle = classifier.model.get_input_embeddings().register_forward_hook(mixes)
    found = neighbours.with_batch_rule(classifier)
    assert found.batch_rule == "alone"
    assert_heeds_nobody(TorchEngine(found, "cpu", "fp32"), texts(classifier, 20))
    handle.remove()
    assert neighbours.with_batch_rule(classifier).batch_rule == "padded"


def test_what_depends_on_the_past_is_refused(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """BigBird's sparse attention is given up for good with the first short text."""
    sparse = tiny("big_bird", folders, block_size=8)
    with pytest.raises(ModelError, match=r"depends on earlier texts.*original_full"):
        neighbours.with_batch_rule(sparse)
    whole = tiny("big_bird", folders, block_size=8, attention_type="original_full")
    assert neighbours.with_batch_rule(whole).batch_rule == "padded"


def test_what_cannot_be_run_alone_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="cannot be run on texts of 3 to 96 tokens"):
        neighbours.with_batch_rule(tiny("funnel", folders))


def test_no_number_is_refused(folders: dict[str, Path]) -> None:
    classifier = tiny("bert", folders)
    with torch.no_grad():
        next(classifier.model.parameters()).fill_(torch.nan)
    with pytest.raises(ModelError, match="Some logits are NaN or infinite"):
        neighbours.with_batch_rule(classifier)


def test_asking_leaves_the_model_as_it_was(folders: dict[str, Path]) -> None:
    classifier = tiny("fnet", folders)
    model: Any = classifier.model.train()
    before = {name: w.clone() for name, w in model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    neighbours.with_batch_rule(classifier)
    assert model.training and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(w, before[n]) for n, w in model.state_dict().items())
    assert classifier.batch_rule == "padded"  # the given one


def test_the_probe_has_the_longest_text_and_short_ones(folders: dict[str, Path]) -> None:
    classifier = tiny("bert", folders)
    rows = neighbours.probe(classifier)
    lengths = [len(row) for row in rows]
    assert max(lengths) == LONGEST and lengths.count(LONGEST) >= 2 and min(lengths) == 3
    assert classifier.pad_id not in {token for row in rows for token in row}


def test_the_rule_is_kept_with_the_model(folders: dict[str, Path], tmp_path: Path) -> None:
    """And with its tokenizer the side, for other tools; what was saved before there were rules is asked again."""
    for architecture, rule, side in (
        ("fnet", "equal lengths", "right"),
        ("xlnet", "padded", "left"),
    ):
        folder = tmp_path / architecture
        modeling.save(neighbours.with_batch_rule(tiny(architecture, folders)), folder)
        card = json.loads((folder / modeling.CARD).read_text())
        assert card["batch_rule"] == rule
        assert json.loads((folder / "tokenizer_config.json").read_text())["padding_side"] == side
        loaded = modeling.load(folder)
        assert (loaded.batch_rule, loaded.padding_side) == (rule, side)
        del card["batch_rule"]
        (folder / modeling.CARD).write_text(json.dumps(card))
        assert modeling.load(folder).batch_rule == rule
        (folder / modeling.CARD).write_text(json.dumps(card | {"batch_rule": "whatever"}))
        with pytest.raises(ModelError, match="no batch_rule 'whatever'"):
            modeling.load(folder)


@pytest.mark.parametrize("architecture", ["fnet", "nystromformer", "gemma"])
def test_openvino_obeys(architecture: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """Where they can take the model over at all."""
    pytest.importorskip("openvino")
    classifier = neighbours.with_batch_rule(tiny(architecture, folders))
    modeling.save(classifier, tmp_path)
    place = tmp_path / registry.FOLDER / "openvino"
    place.mkdir(parents=True)
    try:
        registry.require("openvino").build(modeling.load(tmp_path), place, [])
    except Exception as error:  # whatever a converter makes of it; then torch scores
        pytest.skip(f"openvino cannot take a {architecture} over: {str(error)[:80]}")
    engine = registry.open_engine("openvino", modeling.load(tmp_path), tmp_path, CPU)
    rows = texts(classifier, 30)
    assert_heeds_nobody(engine, rows)
    expected = TorchEngine(classifier, "cpu", "fp32").logits(rows)
    assert np.abs(engine.logits(rows) - expected).max() <= 2e-3 * np.ptp(expected) + 2e-5

    # Engines of before the side was recorded were always padded on the right.
    record = json.loads((place / build_record.RECORD).read_text())
    del record["padding_side"]
    (place / build_record.RECORD).write_text(json.dumps(record))
    engine = registry.open_engine("openvino", modeling.load(tmp_path), tmp_path, CPU)
    assert np.abs(engine.logits(rows) - expected).max() <= 2e-3 * np.ptp(expected) + 2e-5


@pytest.mark.parametrize("architecture", ["fnet", "gemma", "xlnet"])
def test_what_is_trained_answers_alone_as_in_company(
    architecture: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    base = tiny_base(architecture, folders, tmp_path / "base")
    done = trained(base, tmp_path / "work", epochs=3, learning_rate=1e-3, precision="fp32")
    rule = "equal lengths" if architecture == "fnet" else "padded"
    assert done.facts["batch_rule"] == done.classifier.batch_rule == rule
    assert "forward" not in vars(done.classifier.model)
    assert_heeds_nobody(TorchEngine(done.classifier, "cpu", "fp32"), texts(done.classifier))
    assert_heeds_nobody(
        TorchEngine(done.classifier, "cpu", "fp32", packed=False), texts(done.classifier)
    )


def test_what_cannot_be_computed_in_bf16_is_scored_in_fp32(
    folders: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """On a CPU there is no Fourier transform in bf16."""
    classifier = neighbours.with_batch_rule(tiny("fnet", folders))
    rows = texts(classifier)
    exact = TorchEngine(classifier, "cpu", "fp32").logits(rows)
    found = TorchEngine(classifier, "cpu", "bf16").logits(rows)
    assert np.array_equal(found, exact)
    assert "is scored in fp32, because it fails in bf16" in caplog.text


def test_a_training_that_is_to_be_packed_is_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    base = tiny_base("fnet", folders, tmp_path / "base")
    with pytest.raises(SettingsError, match=r"its outputs depend on .*\[training.packing\]"):
        trained(base, tmp_path / "work", packing="on")


@given(st.lists(st.integers(0, 40), max_size=200), st.integers(1, 500), st.integers(1, 64))
def test_a_plan_keeps_to_the_rule(lengths: list[int], tokens: int, rows: int) -> None:
    for rule in ("equal lengths", "alone"):
        plan = batching.plan(lengths, tokens, rows, rule)
        assert sorted(i for batch in plan for i in batch.tolist()) == list(range(len(lengths)))
        for batch in plan:
            assert len({max(1, lengths[i]) for i in batch}) == 1 and len(batch) <= rows
            assert len(batch) == 1 or (rule != "alone" and len(batch) * lengths[batch[0]] <= tokens)


def test_padding_on_the_left() -> None:
    ids, mask = batching.pad([[5, 6, 7], [8]], 9, "left")
    assert ids.tolist() == [[5, 6, 7], [9, 9, 8]] and mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_a_classifier_may_be_padded_until_it_is_known(folders: dict[str, Path]) -> None:
    """Without the rule an FNet heeds its neighbours: the test above would fail."""
    classifier = replace(tiny("fnet", folders), batch_rule="padded")
    with pytest.raises(AssertionError):
        assert_heeds_nobody(TorchEngine(classifier, "cpu", "fp32"), texts(classifier))
