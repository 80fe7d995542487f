"""Parsing of s3:// URIs into bucket and key. The bucket may be an access point, whose name contains a slash."""

import re

# The ARN of an access point: of one region or several, on AWS or on an Outpost.
_ACCESS_POINT = (
    r"arn:aws[a-z-]*:s3[a-z-]*:[a-z0-9-]*:[0-9]{12}:"
    r"(?:accesspoint[:/][A-Za-z0-9.-]{1,63}|outpost[:/][A-Za-z0-9-]{1,63}[:/]accesspoint[:/][A-Za-z0-9-]{1,63})"
)
BUCKET = rf"(?:[a-z0-9][a-z0-9._-]{{0,62}}|{_ACCESS_POINT})"
OF_THE_FORM = "of the form s3://bucket/prefix (bucket names have lower-case letters, digits, dots and hyphens)"
_URI = re.compile(rf"s3://(?P<bucket>{_ACCESS_POINT}|[^/]+)(?:/(?P<key>.*))?", re.DOTALL)
_BUCKET = re.compile(BUCKET)


def split_uri(uri: str) -> tuple[str, str] | None:
    """Return bucket and key (or prefix; '' without one) of an s3:// URI; None if it is not of that form."""
    match = _URI.fullmatch(uri)
    if not match or not _BUCKET.fullmatch(match["bucket"]):
        return None
    return match["bucket"], match["key"] or ""


def key_of(uri: str) -> str:
    """Return the key of an s3:// URI; '' if it names only a bucket, or is not one."""
    return (split_uri(uri) or ("", ""))[1]
