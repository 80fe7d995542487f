"""Conversion of texts to token ids: one encoder for training, evaluation and scoring, shipped with the model."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

from tasks.core.data.params import TokenizationParams
from tasks.core.data.texts import encodable, without_markup
from tasks.core.data.tokens.long_texts import Tokens, tokens_from_end, tokens_from_start, tokens_of
from tasks.core.errors import ModelError, SettingsError

# A text with more characters per kept token is not tokenized as a whole. Reviews are rarely so long.
_CHARACTERS_A_TOKEN = 64
# Characters per call of the tokenizer, which takes up to 1 kB of memory per character.
_CALL_CHARACTERS = 131_072
_PROBES = 1_000  # words of the tokenizer's own vocabulary to try
T = TypeVar("T")


@dataclass(frozen=True)
class Encoded:
    """Unpadded tokens of some texts."""

    input_ids: list[list[int]]
    truncated: int  # number of texts that were cut
    # Number of texts with no token, or with the unknown token only.
    unknown: int = 0


@dataclass(frozen=True)
class Located:
    """A text's tokens and the position of each in the text."""

    text: str  # as it was tokenized
    input_ids: list[int]
    offsets: list[tuple[int, int] | None]  # start and end in characters; None for a special token
    cut: int  # index of the token before which text is missing; -1 for none


class Encoder:
    """A fast tokenizer with its truncation rule.

    Head and tail: Sun et al., 2019, "How to Fine-Tune BERT for Text Classification?" (section 5.3.1).

    Raises:
        ModelError: the tokenizer is not a fast one, or its special tokens around a text cannot be determined.
        SettingsError: max_length_tokens leaves no room for text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, params: TokenizationParams) -> None:
        if not tokenizer.is_fast:
            raise ModelError(
                "The model has no fast tokenizer", "", "choose a model that ships a tokenizer.json"
            )
        self.tokenizer = tokenizer
        self.params = params
        self._prefix, self._suffix = _special_frame(tokenizer)
        self._room = params.max_length_tokens - len(self._prefix) - len(self._suffix)
        if self._room < 4:
            raise SettingsError(
                f"{params.max_length_tokens} tokens leave no room for text beside the special tokens",
                "tokenization.max_length_tokens",
            )

    @property
    def frame(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after each text."""
        return self._prefix, self._suffix

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return the token ids of each text, cut to `max_length_tokens`, with the special tokens, in the order given.

        Of a very long text, only the ends are tokenized; the kept tokens are those of the whole text (see
        `long_texts`).
        """
        input_ids: list[list[int]] = []
        truncated = unknown = 0
        nothing: Any = self.tokenizer.unk_token_id
        for plain in self._plain(texts):
            if isinstance(plain, str):
                tokens, cut = self._ends(plain)
                ids = tokens.ids
            else:
                ids, cut = self._fit(plain), len(plain) > self._room
            input_ids.append(self._prefix + ids + self._suffix)
            truncated += cut
            unknown += all(token == nothing for token in ids)
        return Encoded(input_ids, truncated, unknown)

    def locate(self, text: str) -> Located:
        """Encode one text like `encode`, with the position of each of its tokens."""
        text = self.readable(text)
        if self._is_long(text):
            tokens, cut = self._ends(text)
        else:
            tokens = tokens_of(self.tokenizer, text)
            cut = len(tokens) > self._room
            tokens = Tokens(self._fit(tokens.ids), self._fit(tokens.offsets))
        before, after = [None] * len(self._prefix), [None] * len(self._suffix)
        return Located(
            text,
            self._prefix + tokens.ids + self._suffix,
            [*before, *tokens.offsets, *after],
            len(before) + self._head if cut else -1,
        )

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of all texts without truncation: a too long text becomes pieces of similar length.

        Each piece has the special tokens. A text without tokens gives no piece.
        """
        pieces: list[list[int]] = []
        for plain in self._plain(texts):
            ids = (
                tokens_from_start(self.tokenizer, plain)[0].ids if isinstance(plain, str) else plain
            )
            count = math.ceil(len(ids) / self._room)
            size = math.ceil(len(ids) / count) if count else 1
            parts = (ids[start : start + size] for start in range(0, len(ids), size))
            pieces += [self._prefix + part + self._suffix for part in parts]
        return pieces

    def readable(self, text: str) -> str:
        """Return a text as it is tokenized: without lone surrogates and, if `strip_markup` is set, without markup."""
        text = encodable(text)
        return without_markup(text) if self.params.strip_markup else text

    def _plain(self, texts: Sequence[str]) -> Iterator[list[int] | str]:
        """Yield all token ids of each text, without special tokens; for a very long text, the text itself."""
        for group in self._groups(texts):
            short = [text for text in group if not self._is_long(text)]
            ids = iter(self._ids(short))
            for text in group:
                yield text if self._is_long(text) else next(ids)

    def _groups(self, texts: Sequence[str]) -> Iterator[list[str]]:
        """Yield texts as they are tokenized, in groups that limit the tokenizer's memory."""
        group: list[str] = []
        characters = 0
        for text in map(self.readable, texts):
            group.append(text)
            characters += 0 if self._is_long(text) else len(text)
            if characters >= _CALL_CHARACTERS:
                yield group
                group, characters = [], 0
        yield group

    def _is_long(self, text: str) -> bool:
        return len(text) > _CHARACTERS_A_TOKEN * self._room

    def _ids(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        return self.tokenizer(
            texts,
            add_special_tokens=False,
            truncation=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]

    @property
    def _head(self) -> int:
        """The number of tokens kept from the beginning of a too long text."""
        return self._room if self.params.truncation == "head" else self._room // 4

    def _fit(self, tokens: list[T]) -> list[T]:
        if len(tokens) <= self._room:
            return tokens
        return tokens[: self._head] + tokens[len(tokens) - self._room + self._head :]

    def _ends(self, text: str) -> tuple[Tokens, bool]:
        """Return the kept tokens of a very long text, and whether the text was cut."""
        tokens, whole = tokens_from_start(self.tokenizer, text, self._room + 1)
        if whole and len(tokens) <= self._room:
            return tokens, False
        tail = tokens_from_end(self.tokenizer, text, self._room - self._head)
        return tokens[: self._head] + tail, True


def _special_frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the token ids that a tokenizer puts before and after a text, such as [CLS] and [SEP]."""
    probe, plain = _known_text(tokenizer)
    framed: list[int] = tokenizer(probe, add_special_tokens=True)["input_ids"]
    for start in range(len(framed) - len(plain) + 1):
        if framed[start : start + len(plain)] == plain:
            return framed[:start], framed[start + len(plain) :]
    raise ModelError("Cannot tell which special tokens this tokenizer puts around a text")


def _known_text(tokenizer: PreTrainedTokenizerBase) -> tuple[str, list[int]]:
    """Return a text that has at least one token, and its tokens: not every tokenizer knows Latin letters."""
    special = set(tokenizer.all_special_ids)
    ordinary = (i for i in sorted(tokenizer.get_vocab().values()) if i not in special)
    words = (str(tokenizer.decode([i])) for i in itertools.islice(ordinary, _PROBES))
    for text in itertools.chain(["a"], words):
        tokens: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        if tokens:
            return text, tokens
    raise ModelError(
        "The tokenizer returns no token for any text, not even for words of its own vocabulary",
        "",
        "save the complete tokenizer again beside the model",
    )
