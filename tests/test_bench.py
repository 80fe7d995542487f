"""The measurements run, on tiny sizes and tiny models; nothing is timed here."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import BertConfig

from benchmarks import together
from benchmarks.speed import __main__ as command
from benchmarks.speed import (
    data,
    flops,
    gpu,
    linear,
    plots,
    results,
    scoring,
    shapes,
    tables,
    trainings,
    turns,
)
from tests.paths import ROOT

PAGE = ROOT / "docs" / "speed.md"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = data.read("train", None).texts
    return shapes.make("tiny", texts, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the model of the measurements is kept, so that they share it."""
    return tmp_path_factory.mktemp("bench-home")


def measured(part: str, tiny: Path, home: Path, out: Path, *more: str) -> dict[str, Any]:
    """The file a measurement leaves, its peers in the environment of the tests."""
    few = ["--only-peers", "pipeline", "token budget", "--peers", sys.executable]
    given = ["--quick", "--base", str(tiny), "--imdb", "/nonexistent", "--home", str(home)]
    command.main([part, *given, *few, "--out", str(out), *more])
    return json.loads((out / f"{part}.json").read_text(encoding="utf-8"))


def looks_right(found: dict[str, Any]) -> None:
    """What every file has, and that a table can be made of it."""
    assert found["format"] == results.FORMAT and found["rows"]
    assert {"processor", "threads", "allocator", "versions"} <= found["machine"].keys()
    assert len({row["name"] for row in found["rows"]}) == len(found["rows"])
    table = tables.markdown(found)
    assert all(f"{row['name']}" in table for row in found["rows"])
    assert all(f"{name} ({why})" in table for name, why in found["missing"].items())


@pytest.mark.filterwarnings("default")  # of libraries that export models
@pytest.mark.slow
def test_scoring(tiny: Path, home: Path, tmp_path: Path) -> None:
    found = measured("scoring", tiny, home, tmp_path)
    looks_right(found)
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["transformers.pipeline, batch 32"]["ratio"] == 1
    assert {"transformers.pipeline, one by one", "Nightshift, torch"} <= rows.keys()
    for name in ("transformers.pipeline, batch 32", "Nightshift, torch, fp32"):
        assert rows[name]["agreement"] == 1 and rows[name]["largest_change"] < 1e-4
    assert found["machine"]["peaks_gflops"]["fp32"] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_price_list(tiny: Path, home: Path, tmp_path: Path) -> None:
    found = measured("price-list", tiny, home, tmp_path)
    looks_right(found)
    names = {row["name"] for row in found["rows"]}
    assert {"full model, fp32", "NB-SVM", "torch, 128 tokens"} <= names


@pytest.mark.slow
def test_training(tiny: Path, home: Path, tmp_path: Path) -> None:
    looks_right(measured("training", tiny, home, tmp_path))


@pytest.mark.slow
def test_accuracy_goes_on_where_it_was(
    tiny: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "short.json"
    settings.write_text(json.dumps({"tokenization": {"max_length_tokens": 32}, "epochs": 1}))
    given = ("--recipes", "best", "--also", f"short={settings}")
    first = measured("accuracy", tiny, home, tmp_path, *given)
    assert "seed 0" in capsys.readouterr().err
    again = measured("accuracy", tiny, home, tmp_path, *given)
    assert "recipe best" in {row["name"] for row in again["rows"]}
    assert "seed 0" not in capsys.readouterr().err
    trained = [row for row in first["rows"] if row["name"] == "short"]
    assert trained == [row for row in again["rows"] if row["name"] == "short"]
    assert tables.markdown(again)


@pytest.mark.slow
def test_the_sweep_does_without_the_test_set(
    tiny: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked = data.read, set[str]()
    monkeypatch.setattr(data, "read", lambda split, *a: asked.add(split) or read(split, *a))
    found = measured("sweep", tiny, home, tmp_path)
    looks_right(found)
    assert asked == {"train"}
    by_name = {row["name"]: row for row in found["rows"]}
    assert len(by_name) > 8
    better = by_name["rate 4e-4"]["accuracy"] - by_name[trainings.DEFAULTS]["accuracy"]
    assert by_name["rate 4e-4"]["difference"] == pytest.approx(better, abs=1e-4)
    with pytest.raises(SystemExit, match=r"No such row: rate 1; there are rate 5e-5"):
        measured("sweep", tiny, home, tmp_path, "--trainings", "rate 1")
    assert "points beside the defaults'" in tables.markdown(found)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_cold_start(tiny: Path, home: Path, tmp_path: Path) -> None:
    found = measured("cold-start", tiny, home, tmp_path, "--engines", "torch")
    looks_right(found)
    steps = found["rows"][0]["steps"]
    assert {"import torch", "download", "load", "open the engine", "first prediction"} <= set(steps)


def test_core_on_a_bare_machine(tmp_path: Path) -> None:
    """Nothing of the services, of the formats or of the linear models is imported."""
    code = (
        "import sys\n"
        "for name in ('prefect', 'mlflow', 'boto3', 'pyarrow', 'datasets', 'accelerate', 'scipy', 'sklearn',"
        " 'matplotlib', 'pydantic_settings'): sys.modules[name] = None\n"
        "import importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if sys.modules.get(name, 1) is None else found(name, *a)\n"
        "from benchmarks.speed import gpu\n"
        f"gpu.main(['--quick', '--out', {str(tmp_path)!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("Scoring needs torch, transformers")
    found = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    looks_right(found)
    assert "training" in found["missing"]
    ours = [row for row in found["rows"] if row["name"].startswith("Nightshift")]
    assert ours and all(row["largest_change"] < 0.05 for row in ours)


@pytest.mark.slow
def test_the_gpu_script_with_training(tmp_path: Path) -> None:
    gpu.main(["--quick", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    looks_right(found)
    assert "training" in {row["task"].split(",")[0] for row in found["rows"]}


@pytest.mark.slow
def test_two_runs_at_once(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--base", str(tiny), "--rounds", "1", "--seconds", "0.2"]
    status = together.main(given)
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("MISSED: " if status else "OK: ")
    assert re.search(r"training and training \d+\.\d\d; training and scoring by torch \d", last)


def test_a_pair_that_loses_more_than_a_tenth_is_a_miss() -> None:
    def pair(name: str, at_once: list[list[float]]) -> together.Pair:
        runs: Any = [SimpleNamespace(name=name), SimpleNamespace(name="scoring")]
        return together.Pair(*runs, alone=[[10.0, 100.0]] * len(at_once), at_once=at_once)

    good = pair("fast", [[5.0, 50.0], [4.5, 50.0], [9.0, 90.0]])
    bad = pair("slow", [[1.0, 10.0], [5.0, 30.0], [2.0, 5.0]])
    assert good.ratios == pytest.approx([1.0, 0.95, 1.8])
    assert together.verdict([good]) == (
        0,
        "OK: at least 0.9 is wanted: fast and scoring 1.00",
    )
    status, line = together.verdict([good, bad])
    assert status == 1 and line.startswith("MISSED: ") and line.endswith("slow and scoring 0.25")


def test_turns_run_every_side_each_round_and_compare_within_it() -> None:
    ran: list[str] = []

    def side(name: str, seconds: float) -> turns.Side:
        return lambda: ran.append(name) or seconds * (1 + ran.count(name))

    sides = {"usual": side("usual", 4.0), "ours": side("ours", 1.0)}
    seconds = turns.seconds_in_turns("test", sides, rounds=3)
    assert ran == ["usual", "ours", "ours", "usual"] * 2
    assert [len(spent) for spent in seconds.values()] == [3, 3], "the first warms up"
    told = turns.figures(seconds, "ours", "usual", rows=8)
    assert told["ratio"] == 4 and told["ratio_range"] == [4, 4]


def test_what_answers_are_worth() -> None:
    exact = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    other = np.array([[0.8, 0.2], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    told = scoring.worth(other, exact, [0, 0, 1, 1])
    assert told["agreement"] == 0.75 and told["largest_change"] == 0.2
    assert told["accuracy"] == 0.75 and told["accuracy_of_fp32"] == 1


def test_flops_are_those_of_the_issue() -> None:
    """MiniLM at IMDb's lengths: counted once by hand."""
    config = BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    tokens = 100
    layer = 2 * tokens * (4 * 384 * 384 + 2 * 384 * 1536) + 4 * tokens**2 * 384
    assert flops.needed(config, [tokens], last_layer_whole=True) == pytest.approx(6 * layer / 1e9)
    needed = flops.needed(config, [tokens])
    assert 5 * layer / 1e9 < needed < 5.3 * layer / 1e9
    assert flops.needed(config, [tokens] * 3) == pytest.approx(3 * needed)


def test_linear_models_learn() -> None:
    train, test = data.read("train", None, 200), data.read("test", None)
    for predict, _ in linear.fitted(train).values():
        assert (predict(test.texts) == np.array(test.labels)).mean() > 0.6


def test_reviews_are_half_of_each_class_and_always_the_same() -> None:
    reviews = data.read("train", None, 40)
    assert sum(reviews.labels) == 20 == sum(reviews.first(20).labels) * 2
    assert reviews == data.read("train", None, 40)
    long = data.as_long_as_imdb(reviews, 300)
    words = np.median([len(text.split()) for text in long.texts])
    assert 140 < words < 210


def test_the_frontier_has_what_no_other_beats_in_both() -> None:
    rows = [
        {"reviews_per_second": 1, "accuracy": 0.9},
        {"reviews_per_second": 2, "accuracy": 0.8},
        {"reviews_per_second": 3, "accuracy": 0.85},
    ]
    assert plots.frontier(rows) == [rows[0], rows[2]]


def test_the_page_says_what_the_results_say() -> None:
    """Whoever measures again, or edits a table by hand: `python -m benchmarks.speed --write-docs`."""
    text = PAGE.read_text(encoding="utf-8")
    marked = set(re.findall(r"<!-- bench:([a-z-]+) -->", text))
    assert marked == set(results.PARTS)
    pictures = [path.name for path in (PAGE.parent / "images").glob("speed-*.png")]
    found = results.read(PAGE.parent / "bench")
    for place in (PAGE, ROOT / "README.md"):
        text = place.read_text(encoding="utf-8")
        assert tables.filled(text, found, pictures) == text
    assert "<!-- bench:summary -->" in text


def test_writing_the_page(tmp_path: Path) -> None:
    row = {"name": "torch", "seconds": 2.5, "steps": {"load": 1.0, "first prediction": 1.5}}
    found = results.result("cold-start", {"rounds": 1, "label": "here"}, [row], {"onnx": "absent"})
    path = results.write(found, tmp_path / "bench")
    assert path.name == "cold-start-here.json"
    page = tmp_path / "speed.md"
    page.write_text("before\n<!-- bench:cold-start -->\nearlier\n<!-- end -->\nafter\n")
    tables.write_docs(results.read(tmp_path / "bench"), page)
    text = page.read_text()
    assert "| torch | **2.50** | 1.00 | 1.50 |" in text and "Missing: onnx (absent)." in text
    assert "earlier" not in text and text.startswith("before\n") and text.endswith("after\n")


def test_the_summary_takes_rows_that_give_what_they_should() -> None:
    def row(name: str, ratio: float, agreement: float) -> dict[str, Any]:
        told = {"name": name, "ratio": ratio, "ratio_range": [ratio, ratio]}
        return told | {"agreement": agreement}

    rows = [row("Nightshift, torch", 5.0, 1.0), row("Nightshift, cascade", 10.0, 0.9995)]
    rows += [row("Nightshift, openvino-int8", 11.0, 0.99), row("CTranslate2", 12.0, 1.0)]
    found = results.result("scoring", {}, rows, {})
    (table,) = tables.summary_of([found])
    assert "cascade" in table and "**5.00**" in table
    assert "int8" not in table and "CTranslate2" not in table
