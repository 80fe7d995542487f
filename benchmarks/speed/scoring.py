"""Measure scoring side by side: reviews/s of all engines and peers, and label agreement with fp32.

    python -m benchmarks.speed scoring --rows 512 --rounds 5 --judged-rows 5000

All score the same reviews with the same weights and the same 512 tokens, in turns, peers in a process of their own. The
predictions are compared with those of plain torch in fp32 on more reviews, those of IMDb's test set.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig

from benchmarks.speed import (
    cascades,
    contenders,
    data,
    flops,
    machine,
    peers,
    results,
    subject,
    turns,
)
from benchmarks.speed.contenders import Contender
from tasks.core.errors import NightshiftError
from tasks.core.evaluation.comparison import Pair

LINEAR_FIRST, LINEAR_FIRST_ENGINE = "Nightshift, cascade, linear first", "cascade-bf16"
Floats = NDArray[np.float64]


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; return the result to be saved."""
    model = given.model or subject.of(given)
    model = subject.cut_as_the_pipeline_does(model, given.home)
    wanted = max(given.rows, given.judged_rows)
    everything = data.read("test", given.imdb, wanted + given.band_rows)
    held_out, bands = everything.first(wanted), everything.after(wanted)
    sample = data.read("train", given.imdb, given.sample_rows, seed=1).texts
    timed = held_out.texts[: given.rows]
    found, missing = contenders.ours(model, sample, given.engines or contenders.WANTED)
    if not given.engines or LINEAR_FIRST_ENGINE in given.engines:
        _add_linear_first(found, missing, model, sample, bands, given)
    python = peers.environment(given.peers)
    if python is None:
        raise SystemExit("There is no environment with the peers: `make bench` makes it")
    threads = torch.get_num_threads()
    with peers.Peers(python, threads) as others:
        names, refused = _open(others, model, threads, given.only_peers)
        versions = others.versions()
        judged = _judged(others, names, found, held_out, len(timed))
        others.take(timed)
        sides: dict[str, turns.Side] = {
            name: (lambda name=name: others.round(name)) for name in names
        }
        sides |= {name: (lambda c=c: c.round(timed)) for name, c in found.items()}
        seconds = turns.seconds_in_turns("scoring", sides, given.rounds)
    peaks = machine.peaks(quick=given.quick)
    work = _work(model, timed)
    rows = [
        {
            "name": name,
            **turns.figures(seconds, name, peers.BASELINE, len(timed)),
            **_against_one_by_one(seconds, name),
            **_share(peaks, name, len(timed), seconds[name], work),
            **judged[name],
        }
        for name in sides
    ]
    settings = {
        "rows": len(timed),
        "judged_rows": len(held_out.texts),
        "band_rows": len(bands.texts),
        "rounds": given.rounds,
        "reviews": f"{held_out.source}, test set",
        "tokens": round(work["tokens"], 1),
        "gflop_a_review": round(work["needed"], 3),
        "gflop_a_review_whole": round(work["whole"], 3),
        "label": given.label,
    }
    return results.result(
        "scoring", settings, rows, missing | refused, peaks, peer_versions=versions
    )


def _add_linear_first(
    found: dict[str, Contender],
    missing: dict[str, str],
    model: Path,
    sample: Sequence[str],
    bands: data.Reviews,
    given: argparse.Namespace,
) -> None:
    """Add the cascade that begins with a linear model where its label is certain to be fp32's."""
    train = data.read("train", given.imdb, given.linear_rows)
    try:
        contender, record = cascades.keeping_labels(model, sample, train, bands)
        print(f"{LINEAR_FIRST}: {cascades.said(record)}", file=sys.stderr, flush=True)
        if record.stages[0].kind == "linear":
            found[LINEAR_FIRST] = contender
        else:
            missing[LINEAR_FIRST] = f"{len(bands.texts)} reviews are too few for its band"
    except (NightshiftError, RuntimeError, ImportError) as error:
        missing[LINEAR_FIRST] = f"{type(error).__name__}: {str(error).splitlines()[0]}"


def _open(
    others: peers.Peers, model: Path, threads: int, only: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """Open the peers, including the baseline; return the names of those that are ready, and why others are not."""
    names: list[str] = []
    refused: dict[str, str] = {}
    for name, (kind, options) in peers.offered(model, threads).items():
        if only and kind not in only:
            continue
        slow = name.endswith("bf16") and contenders.rate_of(name) != "bf16"
        why = "no bf16 in this processor" if slow else others.open(name, kind, options)
        if why:
            refused[name] = why
        else:
            names.append(name)
        print(f"peer {name}: {why or 'ready'}", file=sys.stderr, flush=True)
    if peers.BASELINE in refused:
        raise SystemExit(f"The baseline cannot be measured: {refused[peers.BASELINE]}")
    return names, refused


def _judged(
    others: peers.Peers,
    names: Sequence[str],
    found: dict[str, Contender],
    judged: data.Reviews,
    timed_rows: int,
) -> dict[str, dict[str, Any]]:
    """Compare the predictions of each row with fp32's on the same reviews.

    transformers' pipeline is fp32 in every form, and slow: its rows are compared on the timed reviews alone.
    """
    reference = peers.REFERENCE if peers.REFERENCE in names else peers.BASELINE
    others.take(judged.texts)
    exact = np.array(others.answers(reference))
    told: dict[str, dict[str, Any]] = {}
    for name in [*names, *found]:
        rows = timed_rows if "batch 32" in name or "one by one" in name else len(judged.texts)
        on = judged.first(rows)
        if name in found:
            answers = found[name].answers(on.texts)
        elif name == reference:
            answers = exact[:rows]
        else:
            others.take(on.texts)
            answers = np.array(others.answers(name))
        told[name] = worth(answers, exact[:rows], on.labels)
        print(f"judged {name}", file=sys.stderr, flush=True)
    return told


def worth(answers: Floats, exact: Floats, labels: Sequence[int]) -> dict[str, Any]:
    """Return label agreement, the largest change of a probability, and accuracy compared with fp32's (McNemar's p)."""
    truth = np.asarray(labels)
    mine, theirs = answers.argmax(axis=1), exact.argmax(axis=1)
    pair = Pair.of(mine == truth, theirs == truth)
    return {
        "judged": len(truth),
        "agreement": round(float((mine == theirs).mean()), 5),
        "largest_change": round(float(np.abs(answers - exact).max()), 4),
        "accuracy": round(float((mine == truth).mean()), 4),
        "accuracy_of_fp32": round(float((theirs == truth).mean()), 4),
        "mcnemar_p": round(pair.mcnemar(), 4),
    }


def _work(model: Path, texts: Sequence[str]) -> dict[str, float]:
    """Return the mean tokens and GFLOP per review."""
    from tasks.core.models import classifier

    lengths = [len(row) for row in classifier.load(model).encoder.encode(texts).input_ids]
    config = AutoConfig.from_pretrained(model, local_files_only=True)
    return {
        "tokens": float(np.mean(lengths)),
        "needed": flops.needed(config, lengths) / len(lengths),
        "whole": flops.needed(config, lengths, last_layer_whole=True) / len(lengths),
    }


def _against_one_by_one(seconds: dict[str, list[float]], name: str) -> dict[str, Any]:
    if peers.ONE_BY_ONE not in seconds:
        return {}
    pairs = zip(seconds[peers.ONE_BY_ONE], seconds[name], strict=True)
    return {"ratio_to_one_by_one": round(float(np.median([a / b for a, b in pairs])), 2)}


def _share(
    peaks: dict[str, float], name: str, rows: int, seconds: Sequence[float], work: dict[str, float]
) -> dict[str, Any]:
    """Return the share of the matrix rate of a row's precision, counting only operations that a prediction needs."""
    rate = contenders.rate_of(name)
    if rate not in peaks:
        return {}
    reached = rows / float(np.median(seconds)) * work["needed"]
    return {"peak_of": rate, "share_of_peak": round(reached / peaks[rate], 3)}
