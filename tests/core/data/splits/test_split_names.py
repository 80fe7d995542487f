"""Which split a file is of."""

import pytest

from tasks.core.data.splits.split_names import split_of, splits_by_name, splits_by_option
from tasks.core.errors import SettingsError, ValidationError

_NAMES = {
    "train": ["train-00000-of-00001.parquet", "reviews_train_final.csv", "training/a.csv",
              "TrainSet.jsonl", "test/train.csv", "trainingdata.tsv.gz"],
    "test": ["test (1).csv", "test/a.csv", "sub/Test_2.jsonl", "reviews-TEST.csv", "imdb.test.jsonl",
             "Kopie von test.csv", "test[1].csv", "testset.csv", "holdout.csv", "held-out/a.csv",
             "HELD_OUT_2.csv", "eval.csv", "evaluation_final.csv", "train/test.csv", "tests/a.csv"],
    "validation": ["val.csv", "valid_1.csv", "dev-v2.csv", "validation/x.csv", "DevSet.csv"],
    "unsupervised": ["unsupervised-0.parquet", "unlabelled.csv"],
    "": ["reviews.csv", "testimony.csv", "latest.csv", "2024-01.csv", "contest.csv", "value.csv",
         "strain.csv", "held.csv"],
}  # fmt: skip


@pytest.mark.parametrize("split", _NAMES)
def test_common_names_are_known(split: str) -> None:
    assert {name: split_of(name) for name in _NAMES[split]} == dict.fromkeys(_NAMES[split], split)


def test_a_name_that_says_two_is_an_error() -> None:
    with pytest.raises(ValidationError, match=r"says test and train .*--data.source.splits 'a|a"):
        split_of("train_test.csv")
    assert split_of("train_test_split/train.csv") == "train"


def test_names_that_say_nothing_are_train_only_where_none_is() -> None:
    told = splits_by_name(["a.csv", "b.csv", "test.csv"], {})
    assert [one.split for one in told.values()] == ["train", "train", "test"]
    assert told["a.csv"].why == "its name says no split"
    with pytest.raises(
        ValidationError, match=r"indicate no split: tset.csv .*splits tset.csv=train"
    ):
        splits_by_name(["train.csv", "tset.csv"], {})
    assert (
        splits_by_name(["train.csv", "more.csv"], {}, labelled=False)["more.csv"].split == "train"
    )


@pytest.mark.parametrize(
    ("said", "split"),
    [
        ({"2025.csv": "test"}, "test"),
        ({"2025": "test"}, "test"),
        ({"20*": "-"}, "-"),
        ({"Year": "validation"}, "validation"),
        ({"year/2025.CSV": "test"}, "test"),
        ({"2024.csv": "train", "year/*": "test"}, "test"),
    ],
)
def test_what_a_person_says_wins(said: dict[str, str], split: str) -> None:
    told = splits_by_name(["2024.csv", "year/2025.csv"], {"2024.csv": "train"} | said)
    assert (
        told["year/2025.csv"].split == split and "data.source.splits" in told["year/2025.csv"].why
    )


def test_a_split_is_renamed() -> None:
    names = ["train", "validation", "test"]
    told = splits_by_option(names, {"validation": "test", "test": "-"})
    assert {name: one.split for name, one in told.items()} == {"validation": "test", "test": "-"}
    files = splits_by_name(["train.csv", "dev (2).csv", "test.csv"], {"dev": "test", "test": "-"})
    assert [one.split for one in files.values()] == ["train", "test", "-"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"a.csv": "tset"}, "'tset' is not a split"),
        ({"c.csv": "test"}, "neither a split, a folder"),
    ],
)
def test_a_typo_is_an_error(said: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        splits_by_name(["a.csv", "b.csv"], said)
