"""Translation of an S3 server's error responses into our errors, with advice for each."""

from typing import Any

from botocore.exceptions import ClientError

from tasks.core.errors import MissingDataError, NightshiftError, StoreError, StoreUnavailableError
from tasks.core.parsing.uris import split_uri

CONDITION_FAILED = {"412", "PreconditionFailed"}
CONFLICT = {"409", "ConditionalRequestConflict"}  # another write is under way: retry
GONE = {"404", "NoSuchKey"}  # If-Match on a deleted object
NOT_IMPLEMENTED = {"501", "NotImplemented"}
OUT_OF_RANGE = {"416", "InvalidRange"}

_BUSY = {
    "ConditionalRequestConflict",
    "SlowDown",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
}
_ACCOUNT = {  # problems of keys, clock or bucket: any other object would be refused as well
    "AccountProblem",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidBucketName",
    "InvalidSecurity",
    "InvalidToken",
    "NoSuchBucket",
    "NotSignedUp",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UserSuspended",
}
_MISSING = {"404", "NoSuchKey", "NoSuchBucket", "NotFound"}
_KEYS = (
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and their permissions; to use the embedded store although "
    "credentials are configured, set NIGHTSHIFT_OBJECT_STORE=embedded"
)
_EXPIRED = "get new credentials, or give the worker a role, which renews its own"
_CLOCK = "set this machine's clock (NTP); requests are signed with the time, and the server allows 15 minutes"
_ADVICE = {
    **dict.fromkeys(("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch"), _KEYS),
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "InvalidToken"), _EXPIRED),
    "RequestTimeTooSkewed": _CLOCK,
    "KeyTooLongError": "shorten the key or the output prefix: a key may have at most 1,024 bytes",
    "InvalidObjectState": "it is archived: restore it, or move it out of the input",
    "InvalidRequest": "if it asks for a checksum or Content-MD5, unset AWS_REQUEST_CHECKSUM_CALCULATION (and "
    "request_checksum_calculation in AWS configuration files): boto3 then sends one",
    "QuotaExceeded": "ask for a larger quota, or delete what is not needed",
}


def from_client_error(error: ClientError, doing: str, uri: str) -> NightshiftError:
    """Convert a server's error response to one of our errors.

    Args:
        error: raised by boto3.
        doing: the operation, such as "reading".
        uri: of the object, prefix or bucket.
    """
    details: Any = error.response.get("Error", {})
    code, message = str(details.get("Code", "")), str(details.get("Message", "")) or "no message"
    bucket, key = split_uri(uri) or (uri, "")
    if code == "NoSuchBucket" or (code in _MISSING and not key):
        fix = f"create the bucket {bucket!r}, or name another (NIGHTSHIFT_BUCKET)"
        return MissingDataError("No such bucket", uri, fix)
    if code in _MISSING:
        return MissingDataError("No such object", uri, "check bucket and key")
    if advice := _ADVICE.get(code):
        return StoreError(f"{doing.capitalize()} is refused ({code}: {message})", uri, advice)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    away = status >= 500 or code in _BUSY
    return (StoreUnavailableError if away else StoreError)(
        f"{doing.capitalize()} failed ({code}: {message})", uri, "see the store's own log"
    )


def may_be_checksum_error(error: Exception) -> bool:
    """True if a store may have refused a write because of its checksum. Old stores report this in many ways.

    Writing again without a checksum tells for certain.
    """
    refusal = error if isinstance(error, ClientError) else error.__cause__ or error.__context__
    if not isinstance(refusal, ClientError):
        return False
    response: Any = refusal.response
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    # From a server that signs the trailer differently, or not at all.
    if code == "SignatureDoesNotMatch":
        return True
    return status in (400, 411, 501) and code not in _ACCOUNT | _BUSY


def is_of_one_object(error: NightshiftError) -> bool:
    """True if the refusal concerns this one object only: its permissions, its encryption key, an archived object."""
    codes = codes_of(error)
    refused = any(code.isdecimal() and 400 <= int(code) < 500 for code in codes)
    return refused and not codes & ({"401", "407", "408", "429"} | _ACCOUNT | _BUSY)


def codes_of(error: NightshiftError) -> set[str]:
    """Return the S3 error code and the HTTP status of the response that caused one of our errors."""
    response: Any = getattr(error.__cause__, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
    return {str(response.get("Error", {}).get("Code", "")), str(status)}
