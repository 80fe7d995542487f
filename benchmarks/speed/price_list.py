"""The price list: the cost of accuracy. Every model, token limit, engine and cascade, compared with the linear models.

    python -m benchmarks.speed price-list --judged-rows 5000 --model-of quick=folder \
        --model-of best=folder:openvino-int8

Accuracy is on unseen reviews of the test set, with McNemar's test of each row against the full
model in fp32, review by review. Speed is measured in turns, and its ratio is to `transformers.pipeline(batch_size=32)`,
which truncates reviews in its own way: to the model's maximum length, keeping the beginning.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed import cascades, contenders, data, linear, peers, results, subject, turns
from benchmarks.speed.contenders import Contender
from benchmarks.speed.linear import Predict
from tasks.core.data.params import TokenizationParams
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.engines import registry
from tasks.core.engines.protocol import EngineOptions
from tasks.core.errors import NightshiftError
from tasks.core.evaluation.comparison import Pair
from tasks.core.models import classifier
from tasks.core.models.base_model import trial

FULL = "full model, fp32"
_AS_PIPELINE = "full model, fp32, cut as the pipeline cuts"
_CUTS = (512, 256, 128)
_RISK = 0.05  # of accepting a row as within the margin although it is less accurate
_MARGIN = 0.005


@dataclass(frozen=True)
class Offer:
    """One row: its labelling function, and how it is timed."""

    name: str
    what: str
    labels: Predict


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; return the result to be saved."""
    model = given.model or subject.of(given)
    judged_rows = max(given.rows, given.judged_rows)
    read = data.read("test", given.imdb, judged_rows + given.band_rows)
    held_out, bands = read.first(judged_rows), read.after(judged_rows)
    sample = data.read("train", given.imdb, given.sample_rows, seed=1).texts
    train = data.read("train", given.imdb, given.linear_rows)
    offers, missing = _offers(model, sample, given)
    offers += _fast_cascades(model, sample, train, bands, missing)
    offers += [
        Offer(name, f"{given.linear_rows:,} reviews, fitted in {seconds:.0f} s", predict)
        for name, (predict, seconds) in linear.fitted(train).items()
    ]
    answers = {offer.name: offer.labels(held_out.texts) for offer in offers}
    seconds = _seconds(offers, model, held_out.texts[: given.rows], given)
    truth = np.array(held_out.labels)
    rows = [
        {
            "name": offer.name,
            "what": offer.what,
            **turns.figures(seconds, offer.name, peers.BASELINE, given.rows),
            **_beside(answers[offer.name] == truth, answers[FULL] == truth),
        }
        for offer in offers
    ]
    cut = next((row for row in rows if row["name"] == _AS_PIPELINE), rows[0])
    usual = turns.figures(seconds, peers.BASELINE, peers.BASELINE, given.rows)
    # Its predictions are those of fp32 with its tokens: `scoring` has checked that.
    rows.insert(0, cut | usual | {"name": peers.BASELINE, "what": cut["what"]})
    settings = {
        "rows": given.rows,
        "judged_rows": len(truth),
        "band_rows": len(bands.texts),
        "rounds": given.rounds,
        "reviews": f"{held_out.source}, test set",
        "price_an_hour": given.price_an_hour,
        "label": given.label,
    }
    for row in rows:
        row["cost_of_a_million"] = cost_of_a_million(given.price_an_hour, row["reviews_per_second"])
    return results.result("price-list", settings, rows, missing)


def cost_of_a_million(price_an_hour: float, reviews_per_second: float) -> float:
    """Return the cost of scoring a million reviews on a machine of that hourly price."""
    return round(price_an_hour / 3600 * 1e6 / reviews_per_second, 4)


def _offers(
    model: Path, sample: Sequence[str], given: argparse.Namespace
) -> tuple[list[Offer], dict[str, str]]:
    full = contenders.opened(registry.TORCH, model, EngineOptions(precision="fp32"))
    offers = [Offer(FULL, _tokens(full.encoder.params), _labels(full))]
    piped = subject.cut_as_the_pipeline_does(model, given.home)
    if piped != model:
        cut = Contender(classifier.load(piped).encoder, full.engine)
        offers.append(Offer(_AS_PIPELINE, _tokens(cut.encoder.params), _labels(cut)))
    missing: dict[str, str] = {}
    longest = trial.longest_input(model, max(_CUTS))
    cuts = [c for c in _CUTS if c <= longest] or [longest]
    fast = given.engines or ("torch", "openvino", "openvino-int8")
    for name in fast:
        found = _opened(name, model, sample, missing, f"Nightshift, {name}")
        for cut in cuts if found else ():
            params = TokenizationParams(max_length_tokens=cut)
            encoder = Encoder(found.encoder.tokenizer, params)
            row = f"{name}, {cut} tokens"
            offers.append(Offer(row, _tokens(params), _labels(Contender(encoder, found.engine))))
    for label, folder, engine in given.model_of:
        name = engine or registry.recommended(folder)
        found = _opened(name, folder, sample, missing, label)
        if found:
            offers.append(Offer(label, f"{name}, {_tokens(found.encoder.params)}", _labels(found)))
    return offers, missing


def _fast_cascades(
    model: Path,
    sample: Sequence[str],
    train: data.Reviews,
    bands: data.Reviews,
    missing: dict[str, str],
) -> list[Offer]:
    try:
        found = cascades.fitted(model, sample, train, bands, _MARGIN)
    except (NightshiftError, RuntimeError, ImportError) as error:
        missing["cascade, fast"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        return []
    return [
        Offer(name, cascades.said(record), _labels(contender))
        for name, (contender, record) in found.items()
    ]


def _opened(
    name: str, model: Path, sample: Sequence[str], missing: dict[str, str], row: str
) -> Contender | None:
    try:
        reason = contenders.build(name, model, sample)
        if not reason:
            return contenders.opened(name, model, EngineOptions())
    except (NightshiftError, RuntimeError, ImportError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    missing[row] = reason
    return None


def _labels(contender: Contender) -> Predict:
    return lambda texts: contender.answers(texts).argmax(axis=1)


def _tokens(params: TokenizationParams) -> str:
    where = {"head": "the beginning", "head_tail": "beginning and end"}[params.truncation]
    return f"{params.max_length_tokens} tokens, {where}"


def _seconds(
    offers: Sequence[Offer], model: Path, texts: Sequence[str], given: argparse.Namespace
) -> dict[str, list[float]]:
    python = peers.environment(given.peers)
    if python is None:
        raise SystemExit("There is no environment with the peers: `make bench` makes it")
    threads = torch.get_num_threads()
    with peers.Peers(python, threads) as others:
        kind, options = peers.offered(model, threads)[peers.BASELINE]
        if why := others.open(peers.BASELINE, kind, options):
            raise SystemExit(f"The baseline cannot be measured: {why}")
        others.take(texts)
        sides: dict[str, turns.Side] = {peers.BASELINE: lambda: others.round(peers.BASELINE)}
        sides |= {offer.name: _timed(offer, texts) for offer in offers}
        print(f"{len(offers)} rows", file=sys.stderr, flush=True)
        return turns.seconds_in_turns("price list", sides, given.rounds)


def _timed(offer: Offer, texts: Sequence[str]) -> turns.Side:
    def work() -> None:
        offer.labels(texts)

    return work


def _beside(correct: Any, full: Any) -> dict[str, Any]:
    """Return the accuracy, and the paired comparison with the full model in fp32."""
    pair = Pair.of(correct, full)
    return {
        "accuracy": round(float(correct.mean()), 4),
        "difference": round(pair.difference, 4),
        "better": pair.better,
        "worse": pair.worse,
        "mcnemar_p": round(pair.mcnemar(), 4),
        "lower_bound": round(pair.lower(_RISK), 4),
        "no_less_accurate": pair.lower(_RISK) >= -_MARGIN,
        "margin": _MARGIN,
    }
