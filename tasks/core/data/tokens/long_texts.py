"""Tokenization of both ends of a text that is far longer than a model's input, without tokenizing the middle.

A text is tokenized piece by piece, from its beginning or from its end, until there are enough tokens. Each piece is
tokenized with `_CONTEXT` characters of text on both sides, and only the tokens that begin inside the piece count. So
the tokens are those of the whole text, provided that a token depends only on its own word and on `_CONTEXT` characters
around it. This holds for WordPiece, for byte-level BPE, and for SentencePiece models whose tokens do not reach from one
word into the next.

Pieces are cut at white space. A "word" of more than `_LONGEST_WORD` characters (or as much white space) is cut
anywhere: the beginning of the text is still exact then, but around such a cut there may be more tokens than the whole
word has. Memory does not grow with the text.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

_CONTEXT = 256  # characters on each side of a piece: more than any added token or rule of a tokenizer needs
_FIRST_PIECE = 2_048
_LARGEST_PIECE = 32_768
_LONGEST_WORD = 32_768
_WORD_ENDS = re.compile(r"(?<=[^ \t\n\r])[ \t\n\r]")


@dataclass
class Tokens:
    """Token ids, and the start and end of each in the text, in characters."""

    ids: list[int] = field(default_factory=list[int])
    offsets: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.ids + other.ids, self.offsets + other.offsets)

    def __getitem__(self, part: slice) -> "Tokens":
        return Tokens(self.ids[part], self.offsets[part])

    def __len__(self) -> int:
        return len(self.ids)


def tokens_from_start(
    tokenizer: PreTrainedTokenizerBase, text: str, enough: int | None = None
) -> tuple[Tokens, bool]:
    """Return the first tokens of a text, and whether the whole text was tokenized.

    Args:
        tokenizer: a fast one.
        text: of any length.
        enough: stop after at least so many tokens; None: all.
    """
    tokens = Tokens()
    end = 0
    for start, end in _pieces(text):
        more = tokens_of(tokenizer, text, start, end)
        tokens.ids += more.ids
        tokens.offsets += more.offsets
        if enough is not None and len(tokens) >= enough:
            break
    return tokens, end == len(text)


def tokens_from_end(tokenizer: PreTrainedTokenizerBase, text: str, enough: int) -> Tokens:
    """Return the last `enough` tokens of a text, or all if it has fewer."""
    parts: list[Tokens] = []
    count = 0
    for start, end in _pieces_from_end(text):
        parts.append(tokens_of(tokenizer, text, start, end))
        count += len(parts[-1])
        if count >= enough:
            break
    return _joined(reversed(parts))[max(0, count - enough) :]


def _joined(parts: Iterable[Tokens]) -> Tokens:
    joined = Tokens()
    for part in parts:
        joined.ids += part.ids
        joined.offsets += part.offsets
    return joined


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Yield consecutive pieces as start and end; the first ones are small, as they often suffice."""
    start, size = 0, _FIRST_PIECE
    while start < len(text):
        end = min(len(text), start + size)
        if end < len(text):
            limit = min(len(text), end + _LONGEST_WORD)
            border = _WORD_ENDS.search(text, end, limit)
            end = border.start() if border else limit
        yield start, end
        start, size = end, min(2 * size, _LARGEST_PIECE)


def _pieces_from_end(text: str) -> Iterator[tuple[int, int]]:
    """Yield pieces as `_pieces` does, but from the end of the text, the last piece first."""
    end, size = len(text), _FIRST_PIECE
    while end > 0:
        start = max(0, end - size)
        if start > 0:
            earliest = max(0, start - _LONGEST_WORD)
            borders = _WORD_ENDS.finditer(text, earliest, start)
            start = max((border.start() for border in borders), default=earliest)
        yield start, end
        end, size = start, min(2 * size, _LARGEST_PIECE)


def tokens_of(
    tokenizer: PreTrainedTokenizerBase, text: str, start: int = 0, end: int | None = None
) -> Tokens:
    """Return the tokens that begin in [start, end); without an end, up to the end of the text."""
    end = len(text) if end is None else end
    before, after = max(0, start - _CONTEXT), min(len(text), end + _CONTEXT)
    encoded: Any = tokenizer(
        text[before:after],
        add_special_tokens=False,
        truncation=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    tokens = Tokens()
    for token, (begin, stop) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        if start <= begin + before < end or (begin + before == end == len(text)):
            tokens.ids.append(token)
            tokens.offsets.append((begin + before, stop + before))
    return tokens
