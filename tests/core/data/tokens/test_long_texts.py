"""Both ends of a very long text have the tokens that they have in the whole, and memory is bounded."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE, Unigram, WordPiece
from transformers import PreTrainedTokenizerFast

from tasks.core.data.params import TokenizationParams
from tasks.core.data.tokens import long_texts, tokenization
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.models import folders
from tests.reviews import GOOD, POOR, reviews

_TEXTS = [
    *(text for text, _ in reviews(200)),
    *GOOD,
    *POOR,
    "¿Qué? It's 50% off!!! …",
    "日本語のレビュー と 中文评论。",
    "a\n\nb\tc  d",
    "naïve café 😀👍🏽",
]
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _wordpiece() -> Tokenizer:
    made = Tokenizer(WordPiece(unk_token="<unk>"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=500, special_tokens=["<unk>"], show_progress=False
    )
    made.train_from_iterator(_TEXTS, trainer)
    return made


def _byte_level(pattern: str = "") -> Tokenizer:
    made = Tokenizer(BPE())
    if pattern:
        split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        made.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_only])
    else:
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=alphabet, special_tokens=["<unk>"], show_progress=False
    )
    made.train_from_iterator(_TEXTS, trainer)
    return made


def _unigram() -> Tokenizer:
    made = Tokenizer(Unigram())
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), spaces])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
    )
    made.train_from_iterator(_TEXTS, trainer)
    return made


def _without_words() -> Tokenizer:
    """As Llama 2 has it: spaces become letters, and merges are sought in the whole text."""
    made = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>"], show_progress=False)
    made.train_from_iterator(_TEXTS, trainer)
    made.pre_tokenizer = None
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return made


MAKERS = {
    "WordPiece": _wordpiece,
    "byte-level BPE": _byte_level,
    "byte-level BPE, cl100k": lambda: _byte_level(_CL100K),
    "Unigram": _unigram,
    "BPE without words": _without_words,
}


@pytest.fixture(scope="module", params=MAKERS)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """One of each kind, trained on a few reviews, with a token of two words added."""
    raw = MAKERS[request.param]()
    raw.add_tokens([AddedToken("<two words>", lstrip=True, rstrip=True), AddedToken("Ōkami")])
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", pad_token="<unk>")


_PARTS = st.one_of(
    st.sampled_from(
        ["lovely", "dull", "It's", "don't", "café", "e\u0301", "ﬁlm", "!!!", "...", "\n\n", "\t", " ", "   ",
         "\u3000", "\u00a0", "\x00", "\x1c", "\u200b", "12345", "中文", "日本語", "👍🏽", "😀", "<two words>", "Ōkami",
         "<br />", "&amp;", "ﷺ", "İ", "\u0301\u0316", "\ud800", "aaaa", "x" * 120]
    ),
    st.text(max_size=6),
)  # fmt: skip


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so small that texts of a page are cut."""
    monkeypatch.setattr(tokenization, "_CHARACTERS_A_TOKEN", 2)
    monkeypatch.setattr(long_texts, "_FIRST_PIECE", 24)
    monkeypatch.setattr(long_texts, "_LARGEST_PIECE", 96)


@given(
    words=st.lists(_PARTS, min_size=1, max_size=200),
    length=st.sampled_from([8, 12, 24, 64]),
    truncation=st.sampled_from(["head_tail", "head"]),
)
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_tokens_that_are_kept_are_those_of_the_whole_text(
    tokenizer: PreTrainedTokenizerFast, small: None, words: list[str], length: int, truncation: str
) -> None:
    text = " ".join(words)
    params = TokenizationParams(max_length_tokens=length, truncation=truncation)  # type: ignore[arg-type]
    encoder = Encoder(tokenizer, params)
    whole = _tokenized_whole(encoder, text)
    kept = encoder.encode([text, "short", text])
    assert kept.input_ids[0] == kept.input_ids[2] == whole
    found = encoder.locate(text)
    assert found.input_ids == whole
    assert kept.truncated // 2 == (found.cut >= 0) == (len(_ids(encoder, text)) > len(whole))
    assert [i for piece in encoder.pieces([text]) for i in piece] == _ids(encoder, text)


def _ids(encoder: Encoder, text: str) -> list[int]:
    return encoder.tokenizer(encoder.readable(text), add_special_tokens=False)["input_ids"]


def _tokenized_whole(encoder: Encoder, text: str) -> list[int]:
    ids, room = _ids(encoder, text), encoder.params.max_length_tokens
    if len(ids) <= room:
        return ids
    head = room if encoder.params.truncation == "head" else room // 4
    return ids[:head] + ids[len(ids) - room + head :]


def test_words_without_end_give_the_beginning_of_the_whole_text(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_texts, "_LONGEST_WORD", 400)
    encoder = Encoder(tokenizer, TokenizationParams(max_length_tokens=16, truncation="head"))
    for word in ("lovely", "中文", "!", "\n", " ", "\u0301\u0316", "\x00"):
        text = f"A good film {word * 3000} and its end"
        assert encoder.encode([text]).input_ids[0][:6] == _tokenized_whole(encoder, text)[:6]


_BIG = """
import resource, sys, time
from pathlib import Path
from tasks.core.models import folders
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.data.params import TokenizationParams
encoder = Encoder(folders.load_tokenizer(Path(sys.argv[1])), TokenizationParams())
encoder.encode(["a film"] * 10)
texts = [(unit * 16_000_000)[:16_000_000] for unit in ("a lovely film ", "a", ".", "\\u4e2d")]
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
encoder.encode(texts)
print(time.process_time() - started, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_reviews_of_sixteen_megabytes_cost_seconds_and_little_memory(bert: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BIG, bert], capture_output=True, text=True, check=True, timeout=300
    )
    seconds, mebibytes = map(float, done.stdout.split())
    assert seconds < 60  # 4 s; 200 s where the whole of them is tokenized
    assert mebibytes < 700  # about 100; 4,700 a review


def test_many_reviews_at_once_are_tokenized_in_bounded_calls(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(folders.load_tokenizer(bert), TokenizationParams())
    one_by_one = [encoder.encode([text]).input_ids[0] for text in _TEXTS]
    monkeypatch.setattr(tokenization, "_CALL_CHARACTERS", 100)
    assert encoder.encode(_TEXTS).input_ids == one_by_one
    assert encoder.encode([]).input_ids == []
