"""The kinds of behavioural check: their fields, the texts they score, and when a model fails a case.

A case is a pair of texts, before and after; for minimum functionality both are the same text. A new kind is one class
here and one entry in `KINDS`; its fields are the ones that its checks may set in a file. Kinds after CheckList (Ribeiro
et al., 2020, "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList").
"""

import random
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from tasks.core.decision import predict_labels
from tasks.core.evaluation.behaviour import templates as sentences
from tasks.core.evaluation.behaviour.perturbations import PERTURBATIONS, swapping
from tasks.core.forms import Form

Probabilities = NDArray[np.float64]
Pair = tuple[str, str]
Word = Annotated[str, Field(min_length=1, max_length=300)]
Lexicons = dict[Annotated[str, Field(max_length=40)], list[Word]]
_ROUNDING = 1e-9


def checked_lexicons(lexicons: Lexicons) -> Lexicons:
    """Return the lexicons unchanged. Raises ValueError if one of them is unusable."""
    for name, words in lexicons.items():
        if not name.isidentifier():
            raise ValueError(
                f"the lexicon name {name!r} cannot be the name of a slot; use letters and _"
            )
        if not words:
            raise ValueError(f"the lexicon {name} is empty; list at least one word, or remove it")
        if len(set(words)) < len(words):
            raise ValueError(f"the lexicon {name} lists a word twice; remove one")
    return lexicons


class Check(Form):
    """The fields that all checks have in common."""

    name: str = Field(
        min_length=1,
        max_length=80,
        pattern=r"^\w[\w ,.'()/+-]*$",
        description="Name of the check in verdicts and reports. It must be unique.",
    )
    description: str = Field(
        default="", max_length=500, description="Purpose of the check, shown in the report."
    )
    lexicons: Lexicons = Field(default={}, max_length=200, description="Words for each slot.")
    templates: list[Word] = Field(
        default=[],
        max_length=500,
        description="Sentences with {slots}, which are filled from the lexicons.",
    )
    kind: ClassVar[str]
    judges: ClassVar[Literal["labels", "probabilities"]] = "labels"

    @field_validator("lexicons")
    @classmethod
    def _lexicons_are_of_use(cls, lexicons: Lexicons) -> Lexicons:
        return checked_lexicons(lexicons)

    @model_validator(mode="after")
    def _slots_have_words(self) -> "Check":
        for field, templates in self.slotted().items():
            if len(set(templates)) < len(templates):
                raise ValueError(f"{field}: two are the same; remove one")
            for number, template in enumerate(templates, 1):
                self._slots_of(f"{field}, number {number}", template)
        return self

    def _slots_of(self, location: str, template: str) -> None:
        try:
            slots = sentences.slots(template)
        except ValueError:
            raise ValueError(
                f"{location}: not a template; write slots as {{name}}, and double every other brace"
            ) from None
        for slot in slots:
            if slot not in self.lexicons:
                existing = ", ".join(sorted(self.lexicons)) or "none"
                raise ValueError(
                    f"{location}: no lexicon for the slot {{{slot}}}; add it to lexicons, or correct the slot "
                    f"(existing lexicons: {existing})"
                )

    def slotted(self) -> dict[str, list[str]]:
        """Return the fields that hold templates."""
        return {"templates": self.templates}

    def named_label(self) -> str | None:
        """Return the label as the check names it; None for a kind that names none."""
        return getattr(self, "label", None)

    @abstractmethod
    def pairs(self, reviews: Sequence[str], limit: int, seed: int) -> list[Pair]:
        """Return at most `limit` cases, deterministic in the arguments.

        Args:
            reviews: real reviews in the order in which they are to be used.
            limit: maximum number of cases.
            seed: of every random choice.
        """

    @abstractmethod
    def failed(
        self, before: Probabilities, after: Probabilities, label: int | None
    ) -> NDArray[np.bool_]:
        """Return which cases fail, shape (cases,).

        Args:
            before: class probabilities of the first texts, shape (cases, classes); times the class costs if it judges
                labels.
            after: those of the second texts, same shape.
            label: class id of the check's label; None for a kind that names none.
        """


class MinimumFunctionality(Check):
    """MFT: sentences with an unambiguous label. A case fails if the model predicts another."""

    kind = "MFT"
    label: str = Field(
        min_length=1, max_length=100, description="Correct label of all its sentences."
    )
    templates: list[Word] = Field(
        min_length=1,
        max_length=500,
        description="Sentences with {slots}, which are filled from the lexicons.",
    )

    def pairs(self, reviews: Sequence[str], limit: int, seed: int) -> list[Pair]:
        texts = sentences.expand(self.templates, self.lexicons, limit, f"{seed} {self.name}")
        return [(text, text) for text in texts]

    def failed(
        self, before: Probabilities, after: Probabilities, label: int | None
    ) -> NDArray[np.bool_]:
        return np.asarray(predict_labels(after) != label)


class _OnReviews(Check):
    """A kind that changes test reviews, or its own sentences if it has templates."""

    max_words: int | None = Field(
        default=None,
        ge=3,
        le=100_000,
        description="Skip reviews with more words: a short change has little effect on a long review.",
    )

    def sources(self, reviews: Sequence[str], limit: int, seed: int) -> Iterator[str]:
        """Yield the texts to change, in order."""
        if self.templates:
            yield from sentences.expand(self.templates, self.lexicons, limit, f"{seed} {self.name}")
        else:
            most = self.max_words or float("inf")
            yield from (review for review in reviews if len(review.split()) <= most)


class Invariance(_OnReviews):
    """INV: a change that keeps the meaning. A case fails if the predicted label changes."""

    kind = "INV"
    perturbations: list[str] = Field(
        default=[],
        max_length=100,
        description="Names of perturbations. Each case gets one of them, in turn.",
    )
    swap: list[str] = Field(
        default=[],
        max_length=100,
        description="Names of lexicons. Their words are replaced with others of the same lexicon, such as names or "
        "places.",
    )

    @field_validator("perturbations")
    @classmethod
    def _perturbations_exist(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in PERTURBATIONS:
                raise ValueError(
                    f"no perturbation is called {name!r}; choose from {', '.join(PERTURBATIONS)}"
                )
        return names

    @model_validator(mode="after")
    def _changes_something(self) -> "Invariance":
        if not self.perturbations and not self.swap:
            raise ValueError("perturbations: none is named; name one, or lexicons to swap")
        for name in self.swap:
            if len(self.lexicons.get(name, [])) < 2:
                raise ValueError(
                    f"swap: {name!r} is not a lexicon of two or more words; add it to lexicons"
                )
        words = [word for name in self.swap for word in self.lexicons[name]]
        if len(set(words)) < len(words):
            raise ValueError("swap: two of the lexicons share a word; keep it in one of them")
        return self

    def _changes(self) -> list[Callable[[str, random.Random], str]]:
        swaps = [swapping([self.lexicons[name] for name in self.swap])] if self.swap else []
        return swaps + [PERTURBATIONS[name] for name in self.perturbations]

    def pairs(self, reviews: Sequence[str], limit: int, seed: int) -> list[Pair]:
        changes = self._changes()
        generator = random.Random(f"{seed} {self.name}")
        pairs: list[Pair] = []
        for text in self.sources(reviews, limit, seed):
            if len(pairs) == limit:
                break
            turn = len(pairs) % len(changes)
            for change in changes[turn:] + changes[:turn]:
                changed = change(text, generator)
                if changed != text:
                    pairs.append((text, changed))
                    break
        return pairs

    def failed(
        self, before: Probabilities, after: Probabilities, label: int | None
    ) -> NDArray[np.bool_]:
        return np.asarray(predict_labels(after) != predict_labels(before))


class Direction(_OnReviews):
    """DIR: appended sentences with a known effect. A case fails if a probability moves the wrong way."""

    kind = "DIR"
    judges = "probabilities"
    label: str = Field(
        min_length=1, max_length=100, description="Label whose probability is observed."
    )
    append: list[Word] = Field(
        min_length=1,
        max_length=500,
        description="Sentences to append to a text, one per case, in turn. They may contain {slots}.",
    )
    must_not: Literal["fall", "rise"] = Field(
        description="Direction in which the probability of the label must not move: fall or rise."
    )
    tolerance: float = Field(
        default=0.05,
        ge=0.0,
        le=0.5,
        description="Movement in the wrong direction that is still allowed.",
    )

    def slotted(self) -> dict[str, list[str]]:
        return {"templates": self.templates, "append": self.append}

    def pairs(self, reviews: Sequence[str], limit: int, seed: int) -> list[Pair]:
        ends = sentences.expand(self.append, self.lexicons, limit, f"{seed} {self.name} append")
        random.Random(f"{seed} {self.name}").shuffle(ends)
        texts = list(self.sources(reviews, limit, seed))[:limit]
        return [(text, _continued(text, ends[n % len(ends)])) for n, text in enumerate(texts)]

    def failed(
        self, before: Probabilities, after: Probabilities, label: int | None
    ) -> NDArray[np.bool_]:
        change = after[:, label] - before[:, label]
        wrong_way = -change if self.must_not == "fall" else change
        return np.asarray(wrong_way > self.tolerance + _ROUNDING)


def _continued(text: str, end: str) -> str:
    """Append a sentence to a text, after a full stop if the text ends in a letter or digit."""
    text = text.rstrip()
    return f"{text}{'.' if text[-1:].isalnum() else ''} {end}"


KINDS: dict[str, type[Check]] = {
    kind.kind: kind for kind in (MinimumFunctionality, Invariance, Direction)
}
