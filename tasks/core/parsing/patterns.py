"""Patterns for texts. A text that does not match is refused in plain words: by the command line, a run or a server.

A field is annotated with its shape: `input: Annotated[str, S3_PREFIX]`. pydantic alone would quote the regular
expression, and so would a server that validates a form by its JSON schema.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, SchemaValidator, core_schema

from tasks.core.parsing.uris import BUCKET, OF_THE_FORM

NOT_OF_SHAPE = "not_of_shape"  # type of pydantic's error


@dataclass(frozen=True)
class Shape:
    """A pattern that a text must match.

    Args:
        pattern: a regular expression for the whole text, valid in both Rust and Python.
        words: end of the error "is not ...", such as "of the form s3://bucket/prefix".
    """

    pattern: str
    words: str

    @cached_property
    def _validator(self) -> SchemaValidator:
        """A validator of pydantic, whose regular expressions take linear time."""
        return SchemaValidator(core_schema.str_schema(pattern=rf"^(?:{self.pattern})$"))

    def fits(self, text: str) -> bool:
        """True if a text has this shape."""
        return self._validator.isinstance_python(text)

    def _check(self, text: str) -> str:
        if not self.fits(text):
            raise PydanticCustomError(NOT_OF_SHAPE, "is not {words}", {"words": self.words})
        return text

    def __get_pydantic_core_schema__(self, kind: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(kind))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Return a schema with `const`, for which a server's error shows `words`; for `pattern` it shows the regex."""
        wrong = {"not": {"pattern": rf"^(?:{self.pattern})$"}}
        return handler(schema) | {"if": wrong, "then": {"const": self.words}}


_DIGEST = "[0-9a-f]{32}"
_PREPARED = "the URI of {}, s3://bucket/prepared/{}/... (see the log of a retrain run)"

S3_PREFIX = Shape(
    rf"s3://{BUCKET}(/.*)?",
    OF_THE_FORM,
)
RUN_RECORDS = Shape(
    rf"s3://{BUCKET}/.+/_runs/[^/]+/?",
    "the URI of a scoring run's records, s3://bucket/prefix/_runs/name (see the log of the run)",
)
TOKENS = Shape(
    rf"s3://{BUCKET}/prepared/(pretraining-)?tokens/{_DIGEST}",
    _PREPARED.format("tokenized reviews", "tokens"),
)
BASE_MODEL = Shape(
    rf"s3://{BUCKET}/prepared/(base-model|pretrained-base)/{_DIGEST}",
    _PREPARED.format("a base model", "base-model"),
)
MODEL_NAME = Shape(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}",
    "a name of letters, digits, dots, hyphens and underscores (at most 100, starting with a letter or digit)",
)
SOURCE_ROW = Shape(r"(.* row \d+)?", "of the form FILE row NUMBER, such as: train.jsonl row 17")
SAID_BY_PEOPLE = Shape(
    r"[\s\S]*\S.*\S[\s\S]*", "a text with at least two characters other than spaces"
)
STUDY = Shape(r"tune-[0-9a-f]{32}", "the name of a study, tune-... (see the log of a tune run)")
LANGUAGES = Shape(
    r"([a-z]{2,3}(,[a-z]{2,3})*)?",
    "one or more language codes separated by commas, such as en,de",
)
BUCKET_NAME = Shape(
    BUCKET,
    "the name of a bucket: 3 to 63 lower-case letters, digits, dots and hyphens",
)
DEPLOYMENT = Shape(r"([^/]+/[^/]+)?", "of the form flow/deployment")
BLOCK = Shape(
    r"(none|[^/]+/[^/]+)?", "of the form type/name, such as slack-webhook/on-call, or none"
)
RENDEZVOUS = Shape(r"([^:/]+:\d+)?", "of the form host:port")
STORE_PAGE = Shape(r"(https?://.*\{bucket\}.*)?", "of the form https://host/{bucket}/{prefix}")
