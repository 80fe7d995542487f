"""A hub data set without a hub: the same labels and splits as files have."""

from types import SimpleNamespace
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Sequence, Value

from tasks.connectors.sources.base import Source, Unreadable
from tasks.connectors.sources.params import SourceParams
from tasks.connectors.sources.registry import open_source
from tasks.core.errors import MissingDataError, SettingsError, ValidationError

STARS = [f"{n} star{'s' * (n > 1)}" for n in range(1, 6)]


def data(labels: list[Any], feature: Any) -> Dataset:
    texts = [f"review {number}" for number in range(len(labels))]
    features = Features({"text": Value("string"), "label": feature})
    return Dataset.from_dict({"text": texts, "label": labels}, features=features)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens a source whose data set is given."""
    place = "tasks.connectors.sources.hub"
    found = SimpleNamespace(dataset_info=lambda *_, **__: SimpleNamespace(sha="0" * 40))
    monkeypatch.setattr(f"{place}.HfApi", lambda: found)

    def source(sets: dict[str, Dataset], **given: Any) -> Source:
        monkeypatch.setattr(f"{place}.load_dataset", lambda *_, **__: DatasetDict(sets))
        params = SourceParams.model_validate({"location": "some/dataset", **given})
        return open_source(params, "location", lambda: pytest.fail("a hub asks for no store"))

    return source


def labels(source: Source, split: str = "train") -> list[str | None]:
    return [row.label for row in source.rows(split) if not isinstance(row, Unreadable)]


def test_a_class_label_is_its_name(opened: Any) -> None:
    sets = {"train": data([4, 0, -1], ClassLabel(names=STARS))}
    assert labels(opened(sets)) == ["5 stars", "1 star", "-1"]
    named = opened(sets, label_names=["1 STAR", *STARS[1:]])
    assert labels(named) == ["5 stars", "1 star", "-1"], "the same names in another case"
    ids = opened(sets, label_names=["A", "B", "C", "D", "E"])
    assert labels(ids) == ["4", "0", "-1"]
    assert ids.identity() != opened(sets).identity(), "what was read so is not taken for the other"


def test_a_label_map_goes_by_the_names_also_where_the_classes_are_ordered(opened: Any) -> None:
    sets = {"train": data([4, 0], ClassLabel(names=STARS))}
    pairs = ", ".join(f"{name}={'POS' if name > '3' else 'NEG'}" for name in STARS)
    for names in ([], ["POS", "NEG"]):
        assert labels(opened(sets, label_map=pairs, label_names=names)) == ["5 stars", "1 star"]


def test_splits_are_named_and_can_be_others(opened: Any) -> None:
    kind = ClassLabel(names=["neg", "pos"])
    sets = {"train": data([0, 1], kind), "validation": data([1], kind), "test": data([-1], kind)}
    assert {f.name: f.split for f in opened(sets).files()} == {n: n for n in sets}
    moved = opened(sets, splits="validation=test, test=-")
    assert moved.splits() == ["train", "test"] and labels(moved, "test") == ["pos"]
    assert opened(sets, splits="test=-").splits() == ["train"]
    with pytest.raises(
        SettingsError, match=r"'dve' is neither .*the names are train, validation, test"
    ):
        opened(sets, splits="dve=test")
    with pytest.raises(
        MissingDataError, match=r"the data set has: all .*--data.source.splits NAME=train"
    ):
        opened({"all": sets["train"]}).splits()
    assert labels(opened({"all": sets["train"]}, splits="all=train")) == ["neg", "pos"]


def test_several_labels_a_review_are_an_error(opened: Any) -> None:
    sets = {"train": data([[0], [0, 1]], Sequence(ClassLabel(names=["neg", "pos"])))}
    with pytest.raises(ValidationError, match=r"'label' holds a list \[some/dataset train row 1\]"):
        labels(opened(sets))


def test_numbers_and_booleans_are_the_labels_of_files(opened: Any) -> None:
    assert labels(opened({"train": data([0.0, 1.0], Value("float32"))})) == ["0", "1"]
    assert labels(opened({"train": data([True, False], Value("bool"))})) == ["true", "false"]
