"""Texts are refused in words: by a form, by the server that checks its schema, and with what may have been meant."""

import importlib
import json
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from prefect.utilities.schema_tools.validation import ValidationError as SchemaError
from prefect.utilities.schema_tools.validation import validate
from pydantic import BaseModel, ValidationError

import flows
from flows.forms.pipelines import RetrainParams
from flows.forms.scoring import ScoreParams
from tasks.core.forms import Form, field_paths, problems_of, suggestions
from tasks.core.parsing import patterns
from tasks.core.parsing.patterns import S3_PREFIX, SAID_BY_PEOPLE
from tasks.core.parsing.uris import split_uri

_ACCESS_POINT = "arn:aws:s3:eu-west-1:123456789012:accesspoint/reviews"


def forms() -> Iterator[type[BaseModel]]:
    """Every form of the house."""
    for module in pkgutil.iter_modules(flows.__path__, "flows."):
        if module.name != "flows.__main__":
            importlib.import_module(module.name)
    waiting = [Form]
    while waiting:
        found = waiting.pop().__subclasses__()
        yield from found
        waiting += found


def test_no_form_shows_a_regular_expression() -> None:
    """Where a text has a shape, pydantic and a server that reads the schema both have words for it."""
    found = list(forms())
    assert len(found) > 20 and ScoreParams in found
    for form in found:
        if form.__module__ == "tasks.core.evaluation.behaviour.kinds":
            continue  # of files, whose reader has words of its own
        for name, field in form.model_fields.items():
            bare = [m for m in field.metadata if getattr(m, "pattern", None)]
            assert all(isinstance(m, patterns.Shape) for m in bare), f"{form.__name__}.{name}"


@pytest.mark.parametrize(
    "text", ["s3:/x", "s3://Reviews/in", "reviews", "s3://", "S3://b/x", "s3://b b"]
)
def test_a_place_that_is_none_is_refused_in_words(text: str) -> None:
    words = "of the form s3://bucket/prefix"
    with pytest.raises(ValidationError) as caught:
        ScoreParams(input=text)
    said = problems_of(caught.value, "params", ScoreParams)
    assert said.startswith(f"params.input: {text!r} is not {words}") and "pattern" not in said
    with pytest.raises(SchemaError, match=words) as refused:
        validate({"input": text}, ScoreParams.model_json_schema(), raise_on_error=True)
    assert "'input'" in str(refused.value) and "does not match" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("s3://reviews", ("reviews", "")),
        ("s3://reviews/", ("reviews", "")),
        ("s3://reviews/a/b c", ("reviews", "a/b c")),
        ("s3://my_old.bucket-1/a\nb", ("my_old.bucket-1", "a\nb")),
        (f"s3://{_ACCESS_POINT}", (_ACCESS_POINT, "")),
        (f"s3://{_ACCESS_POINT}/in/a.csv", (_ACCESS_POINT, "in/a.csv")),
        ("s3://arn:aws:s3::123456789012:accesspoint:mfzwi23gnjvgw.mrap/a",
         ("arn:aws:s3::123456789012:accesspoint:mfzwi23gnjvgw.mrap", "a")),
        ("s3://arn:aws-cn:s3-outposts:cn-north-1:123456789012:outpost/op-1/accesspoint/x/k/y",
         ("arn:aws-cn:s3-outposts:cn-north-1:123456789012:outpost/op-1/accesspoint/x", "k/y")),
        ("s3://arn:aws:s3:eu-west-1:1:accesspoint/x/k", None),
        ("s3:///key", None),
        ("s3://Reviews/x", None),
        ("http://reviews/x", None),
    ],
)  # fmt: skip
def test_bucket_and_key_of_a_uri(uri: str, parts: tuple[str, str] | None) -> None:
    assert split_uri(uri) == parts
    assert S3_PREFIX.fits(uri) == (parts is not None) or "\n" in uri


def test_what_people_say_needs_two_characters() -> None:
    assert SAID_BY_PEOPLE.fits("  Ada Lovelace\nand others ") and SAID_BY_PEOPLE.fits("Al")
    assert not SAID_BY_PEOPLE.fits(" a ") and not SAID_BY_PEOPLE.fits("\n\t")


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("location", "data.source.location or pretraining.location"),
        ("source.location", "data.source.location"),
        ("epochs", "training.epochs or pretraining.epochs"),
        ("training.epoch", "training.epochs"),
        ("label_colum", "data.source.label_column"),
        ("model_name", "registration.model_name"),
        ("xyzzy", ""),
    ],
)
def test_what_was_meant_is_of_the_same_kind(wrong: str, meant: str) -> None:
    assert suggestions(wrong, field_paths(RetrainParams)) == meant


def test_a_field_that_is_not_there_is_told_with_its_neighbour() -> None:
    given: dict[str, Any] = {"trainin": {}, "data": {"source": {"locaton": "x"}}}
    with pytest.raises(ValidationError) as caught:
        RetrainParams.model_validate(given)
    said = problems_of(caught.value, "", RetrainParams)
    assert "trainin: there is no such field, did you mean training?" in said
    assert "data.source.locaton: there is no such field, did you mean data.source.location?" in said


def test_what_was_given_is_shown_only_in_part() -> None:
    with pytest.raises(ValidationError) as caught:
        ScoreParams(input="x" * 10_000)
    assert len(problems_of(caught.value)) < 500


def test_schemas_are_still_json() -> None:
    for form in (RetrainParams, ScoreParams):
        assert json.loads(json.dumps(form.model_json_schema()))
