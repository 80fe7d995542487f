"""The model card as Hugging Face's own library reads it, its code as people run it, and its tables with odd names."""

import contextlib
import dataclasses
import io
import re
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from tasks.core.data.params import TokenizationParams
from tasks.core.models import classifier as modeling
from tasks.core.release.gate.evidence import Clause, Verdict
from tasks.core.release.report.model_card import CardDetails, model_card
from tasks.core.release.report.parts import Calibration, Decision, Report
from tests.core.release.report.report_example import HOSTILE, SECRET, bare, interval, whole

DETAILS = CardDetails(
    max_length_tokens=32,
    truncation="head_tail",
    base_hub_id="sentence-transformers/all-MiniLM-L6-v2",
    base_license="apache-2.0",
    languages=["en"],
    dataset_hub_id="stanfordnlp/imdb",
    versions={"transformers": "5.23.0"},
)
UNKNOWN = CardDetails(max_length_tokens=32, truncation="head")


def rows_of(table: str) -> list[list[str]]:
    """Cells of the rows of a Markdown table, an escaped | being no border."""
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()]


def test_the_hub_reads_the_front_matter() -> None:
    data = ModelCard(model_card(whole(), DETAILS)).data
    assert (data.language, data.license, data.library_name) == (
        ["en"],
        "apache-2.0",
        "transformers",
    )
    assert data.pipeline_tag == "text-classification"
    assert data.base_model == DETAILS.base_hub_id and data.datasets == ["stanfordnlp/imdb"]
    found = {result.metric_type: result for result in data.eval_results or []}
    assert {name: r.metric_value for name, r in found.items()} == pytest.approx(
        {"accuracy": 0.89, "log_loss": 0.3, "own_metric": 0.51}
    )
    assert data.model_name == "reviews version 7"
    assert found["accuracy"].dataset_type == "stanfordnlp/imdb"
    assert found["accuracy"].dataset_split == "test"
    assert found["accuracy"].dataset_args == {"digest": "2222bbbb", "rows": 1000}


def test_the_model_index_survives_the_way_there_and_back() -> None:
    front = yaml.safe_load(model_card(whole(), DETAILS).split("---\n")[1])
    name, results = model_index_to_eval_results(front["model-index"])
    assert name == "reviews version 7" and len(results) == 3
    assert {r.task_type for r in results} == {"text-classification"}
    assert front["base_model_relation"] == "finetune"


def test_what_is_not_known_is_left_out() -> None:
    content = model_card(bare(), UNKNOWN)
    front = yaml.safe_load(content.split("---\n")[1])
    assert not {"language", "license", "base_model", "base_model_relation", "datasets"} & set(front)
    assert ModelCard(content).data.license is None
    for sentence in ("No temperature was fitted.", "None were made.", "There is no champion yet."):
        assert sentence in content
    folder = dataclasses.replace(UNKNOWN, base_hub_id="/models/our own")
    assert "base_model:" not in model_card(bare(), folder)


def test_every_part_is_there() -> None:
    content = model_card(whole(decision=Decision("approved", "Ada", "known", "today")), DETAILS)
    assert re.findall(r"^#+ (.*)$", content, re.MULTILINE) == [
        "reviews version 7",
        "Intended use",
        "Get started",
        "Training data",
        "Evaluation",
        "Slices",
        "Behavioural checks",
        "Calibration",
        "Limitations",
        "Provenance",
    ]
    for figure in (
        "| Accuracy | 0.8900 [0.8700, 0.9100] | 0.8800 [0.8600, 0.9000] | 0.8500 [0.8300, 0.8700] |",
        "| Log-loss (nats) | 0.3000 [0.2800, 0.3200] | 0.3100 [0.2900, 0.3300] | not defined |",
        "difference in accuracy 0.0100 [-0.0050, 0.0250], McNemar's exact test p = 0.2",
        "| negation | minimum functionality | 100 | 31 | 30 |",
        "A temperature of 1.2500",
        '- It fails 31% of the check "negation".',
        "- a warning of the gate",
        "| Approved by | Ada, today: known |",
        "| transformers | 5.23.0 |",
        "| Reviews in train | 4,000 |",
        "| Likely label errors | train 14 |",
    ):
        assert figure in content, figure


def test_a_failed_clause_is_a_limitation() -> None:
    clause = Clause(name="no slice worse", passed=False, text="long reviews -0.0800")
    content = model_card(whole(verdict=Verdict(promote=False, clauses=[clause])), DETAILS)
    assert "- Not met: no slice worse (long reviews -0.0800)." in content
    assert "it did not meet 1 of" in content


def test_no_review_text_and_no_markup_get_in() -> None:
    content = model_card(whole(), DETAILS)
    body = content.split("---\n", 2)[2]
    assert SECRET not in content and HOSTILE not in body
    outside_code = re.sub(r"`[^`\n]*`", "", re.sub(r"\\.", "", body))
    assert "<" not in outside_code.replace("```", "")


def test_tables_hold_whatever_names_labels_have() -> None:
    content = model_card(whole(), DETAILS)
    tables = re.findall(r"(?:^\|.*\n)+", content, re.MULTILINE)
    assert len(tables) == 7
    for table in tables:
        assert len({len(row) for row in rows_of(table)}) == 1, table
        assert table.splitlines()[1].replace("-", "").replace("|", "") == ""


def test_the_code_of_the_card_runs(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both pieces, in the folder of the model, and what they say of the temperature is so."""
    torch.manual_seed(0)
    params = TokenizationParams(max_length_tokens=32)
    classifier = modeling.load_for_training(bert, ["NEGATIVE", "POSITIVE"], params, 0.0)
    (ids,) = classifier.encoder.encode(["The plot was thin."]).input_ids
    with torch.no_grad():
        raw = classifier.model.eval()(input_ids=torch.tensor([ids])).logits
    modeling.save(modeling.with_temperature(classifier, 1.25), tmp_path)
    report: Report = whole(calibration=Calibration(1.25, {}, {}))
    (tmp_path / "README.md").write_text(model_card(report, DETAILS), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    start, calibration = re.findall(
        r"```python\n(.*?)```", (tmp_path / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(start, {})
    assert "NEGATIVE" in out.getvalue() and "POSITIVE" in out.getvalue()
    names: dict[str, torch.Tensor] = {}
    exec(calibration, names)
    assert torch.allclose(names["probabilities"], torch.softmax(raw / 1.25, dim=-1), atol=1e-5)
    assert torch.allclose(names["uncalibrated"], torch.softmax(raw, dim=-1), atol=1e-5)


def test_many_labels_are_counted_not_listed() -> None:
    names = [f"label {i}" for i in range(200)]
    content = model_card(dataclasses.replace(bare(), label_names=names), UNKNOWN)
    assert "one of 200 labels" in content and "and 180 more." in content
    assert "label 19" in content and "label 20," not in content


def test_a_slice_that_is_worse_is_marked() -> None:
    row = dataclasses.replace(whole().slices[0], passed=False, candidate=interval(0.5))
    content = model_card(whole(slices=[row]), DETAILS)
    assert "| length (worse by more than the margin) | 300 | 0.5000" in content


def test_the_engine_that_scores_with_it_is_named() -> None:
    report = dataclasses.replace(whole(), engine="openvino: 100 reviews/s")
    said = {
        row[0].strip(): row[1].strip()
        for row in rows_of(model_card(report, DETAILS))
        if len(row) == 2
    }
    assert said["Scored by"] == "openvino: 100 reviews/s"


def test_class_costs_are_named() -> None:
    report = dataclasses.replace(whole(), class_costs={"NEGATIVE": 5.0, "POSITIVE": 1.0})
    card = model_card(report, DETAILS)
    assert "Missing a review costs 5 for NEGATIVE, 1 for POSITIVE. The label is the class" in card
    assert "Class costs" not in model_card(whole(), DETAILS)
