"""The form of score offers the format."""

from flows.cli.arguments import parse


def test_the_form_offers_arrow() -> None:
    assert parse("score", ["--output-format", "arrow"]).output_format == "arrow"
