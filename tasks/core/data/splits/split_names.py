"""Assignment of files to splits, by their names, their folders, or the user's settings.

The split names are those of `datasets` (its `data_files.SPLIT_KEYWORDS`), and other common ones. File names are cut
into words, so that `test (1).csv`, `reviews_TEST_final.csv` and `TestSet.csv` are test, and `latest.csv` is no split.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from tasks.core.errors import SettingsError, ValidationError
from tasks.core.parsing.pairs import LEAVE_OUT

FIELD = "data.source.splits"
OPTION = "--data.source.splits"
SPLITS = ("train", "test", "validation", "unsupervised")

_KEYWORDS = {
    "train": ("train", "training", "trn"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "holdout", "heldout"),
    "validation": ("validation", "validate", "valid", "val", "dev", "development", "devel"),
    "unsupervised": ("unsupervised", "unlabelled", "unlabeled"),
}
_ENDINGS = ("", "s", "set", "data", "split", "file", "files", "reviews", "ing")
_SPLIT_OF = {
    word + ending: split
    for split, words in _KEYWORDS.items()
    for word in words
    for ending in _ENDINGS
}
_HELD_OUT = re.compile(r"(?i)\b(held|hold)[\W_]+out\b|(?<![^\W_])(held|hold)[\W_]+out(?![^\W_])")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_]+")


@dataclass(frozen=True)
class SplitChoice:
    """The split of a file, and the reason for it."""

    split: str  # one of SPLITS, or "-": it is left out
    why: str


def split_of(name: str) -> str:
    """Return the split that a relative file name indicates, by its last part, then by its folders; "" if none.

    Raises:
        ValidationError: one part of the name indicates several splits.
    """
    path = PurePosixPath(name)
    for part in reversed(path.parts):
        splits = {_SPLIT_OF[word] for word in _words(part) if word in _SPLIT_OF}
        if len(splits) > 1:
            raise ValidationError(
                f"The name indicates several splits: {', '.join(sorted(splits))}",
                name,
                f"set its split: {OPTION} {_typed(name, min(splits))}",
            )
        if splits:
            return splits.pop()
    return ""


def _words(part: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(_HELD_OUT.sub(" holdout ", part))]


def splits_by_name(
    names: Sequence[str], settings: Mapping[str, str], labelled: bool = True
) -> dict[str, SplitChoice]:
    """Return the split of each file of a source.

    Files whose names indicate no split are train, unless other files are named train: then the user has to assign
    them.

    Args:
        names: relative to the source, with forward slashes.
        settings: pattern of file names, name of a folder or of a split -> split, or `-` to leave it out.
        labelled: False if only texts are read; then a file whose name indicates no split is read.
    Raises:
        SettingsError: a pattern matches no file, or its value is no split.
        ValidationError: a name indicates two splits, or none beside others that are named train.
    """
    choices = splits_by_option(names, settings)
    choices |= {
        name: SplitChoice(split_of(name), "its name says so")
        for name in names
        if name not in choices
    }
    unnamed = [name for name in names if not choices[name].split]
    if (
        labelled
        and len(names) > 1
        and unnamed
        and any(choice.split == "train" for choice in choices.values())
    ):
        raise ValidationError(
            f"Some files are named train, but the names of others indicate no split: {_listed(unnamed)}",
            FIELD,
            f"assign them to train, test or - (left out): {OPTION} {_typed(unnamed[0], 'train')}",
        )
    default = SplitChoice("train", "its name says no split")
    return {name: choices[name] if choices[name].split else default for name in names}


def splits_by_option(names: Sequence[str], settings: Mapping[str, str]) -> dict[str, SplitChoice]:
    """Return the files, or splits of a hub data set, that the user's settings assign to a split.

    Raises:
        SettingsError: a pattern matches no file, or its value is no split.
    """
    _refuse_unknown(settings)
    choices: dict[str, SplitChoice] = {}
    used = set[str]()
    for name in names:
        by_name = (
            split_of(name)
            if settings and not any(_matches(name, pattern) for pattern in settings)
            else ""
        )
        for pattern, split in settings.items():
            if _matches(name, pattern) or (by_name and split_named(pattern) == by_name):
                choices[name] = SplitChoice(split, f"{FIELD} says so ({pattern})")
                used.add(pattern)
                break
    if unused := [pattern for pattern in settings if pattern not in used]:
        raise SettingsError(
            f"{unused[0]!r} is neither a split, a folder nor a file name; the names are {_listed(names)}",
            FIELD,
            f"use one of these names: {OPTION} {_typed(names[0], 'train') if names else 'NAME=train'}",
        )
    return choices


def split_named(word: str) -> str:
    """Return the split that a single word stands for; "" if none."""
    return _SPLIT_OF.get(word.lower(), "")


def _matches(name: str, pattern: str) -> bool:
    """True if a pattern matches a name, its last part with or without extensions, or a folder above it."""
    path = PurePosixPath(name.lower())
    stems = [path.name.partition(".")[0], path.name.rsplit(".", 1)[0]]
    folders = [str(parent) for parent in path.parents if str(parent) != "."]
    candidates = [str(path), path.name, *stems, *folders, *path.parts[:-1]]
    lowered = pattern.lower().rstrip("/")
    # An exact name wins, so that brackets and other wildcards in it stand for themselves.
    return lowered in candidates or any(fnmatchcase(candidate, lowered) for candidate in candidates)


def _refuse_unknown(settings: Mapping[str, str]) -> None:
    for pattern, split in settings.items():
        if split not in (*SPLITS, LEAVE_OUT):
            raise SettingsError(
                f"{split!r} is not a split",
                FIELD,
                f"use train, test, validation, unsupervised, or - to leave it out: {OPTION} {_typed(pattern, 'test')}",
            )


def _typed(pattern: str, split: str) -> str:
    """Return a pair as typed in a shell."""
    plain = re.fullmatch(r"[\w./-]+", pattern)
    return f"{pattern}={split}" if plain else f"'\"{pattern}\"={split}'"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
