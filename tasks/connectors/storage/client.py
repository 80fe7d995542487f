"""boto3's client for the object store: the user's boto3 settings win, and the needs of old stores are found by trying.

Whatever boto3's variables and files can set is left to them; we only supply defaults for what the user has not set.
Since 2025 boto3 sends a checksum with each write. A bucket with Object Lock requires it, and old stores refuse it.
"""

from typing import TYPE_CHECKING, Any

import boto3.session
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from tasks.core.errors import SettingsError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_SECONDS = 5.0
READ_SECONDS = 60.0  # without a byte, after which the store counts as unavailable
_ANSWER_SECONDS = 10.0  # for the check that it answers
_ATTEMPTS = 8
_CHECKSUMS = "request_checksum_calculation"
# botocore's session variables (name in files, variable, default, conversion), with our default.
_OURS: dict[str, Any] = {"max_attempts": ("max_attempts", "AWS_MAX_ATTEMPTS", _ATTEMPTS, int)}
_USERS_CHOICE: dict[str, Any] = {
    _CHECKSUMS: (_CHECKSUMS, "AWS_REQUEST_CHECKSUM_CALCULATION", None, None)
}
# For the embedded server: ignore the user's profiles and configuration files.
_NO_FILES: dict[str, Any] = {
    "profile": (None, None, None, None),
    "config_file": (None, None, "/dev/null", None),
    "credentials_file": (None, None, "/dev/null", None),
}
# Endpoints that have refused checksums during the life of this process.
_refusing: set[str] = set()


class StoreClient:
    """Makes clients, and remembers whether writes to this store carry checksums.

    Args:
        endpoint_url: of the server; None for AWS, or for the one in boto3's files.
        access_key, secret_key: None to let boto3 find them (environment, profile, role).
        region: None to let boto3 find it.
    Raises:
        SettingsError: the address is invalid, or boto3 refuses its own settings.
    """

    def __init__(
        self,
        endpoint_url: str | None,
        access_key: str | None,
        secret_key: str | None,
        region: str | None,
    ) -> None:
        self._endpoint_url, self._region = endpoint_url, region
        self._keys = access_key, secret_key
        self._own = _NO_FILES if access_key else {}
        try:
            session = botocore.session.Session(session_vars=_USERS_CHOICE | self._own)
            self._user_chose = session.get_config_variable(_CHECKSUMS) is not None
            plain = not self._user_chose and str(endpoint_url) in _refusing
            self.client: S3Client = self._new_client(plain)
        except ValueError as error:  # it may quote the address, which may hold a password
            if "endpoint" not in str(error):
                raise _refused(error) from None
            raise SettingsError(
                "Not the address of an S3 server",
                "AWS_ENDPOINT_URL_S3",
                "write http://host:port or https://host",
            ) from None
        except BotoCoreError as error:
            raise _refused(error) from error

    def impatient(self) -> "S3Client":
        """Return a client that does not retry and waits only seconds, to check that the store answers."""
        once = Config(read_timeout=_ANSWER_SECONDS, retries={"total_max_attempts": 1})
        return self._new_client(plain=True, more=once)

    def _new_client(self, plain: bool, more: Config | None = None) -> "S3Client":
        """Make a client; a plain one sends checksums only if an operation requires one."""
        session = botocore.session.Session(session_vars=_OURS | self._own)
        s3_options: dict[str, Any] = session.get_config_variable("s3") or {}
        by_path = bool(self._endpoint_url) and "addressing_style" not in s3_options
        usual = "us-east-1" if self._endpoint_url else None
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            max_pool_connections=32,
            s3={"addressing_style": "path"} if by_path else None,
            request_checksum_calculation="when_required" if plain else None,
        )
        return boto3.session.Session(botocore_session=session).client(
            "s3",
            endpoint_url=self._endpoint_url,
            aws_access_key_id=self._keys[0],
            aws_secret_access_key=self._keys[1],
            region_name=self._region or session.get_config_variable("region") or usual,
            config=config.merge(more) if more else config,
        )

    def without_checksums(self) -> "S3Client | None":
        """Return a client that sends checksums only if required; None if the user chose, or this one already does."""
        config: Any = self.client.meta.config
        if self._user_chose or config.request_checksum_calculation == "when_required":
            return None
        return self._new_client(plain=True)

    def go_on_with(self, client: "S3Client") -> None:
        """Use a plain client from now on, as do all later ones of this process: the store has refused checksums."""
        _refusing.add(str(self._endpoint_url))
        self.client = client


def _refused(error: Exception) -> SettingsError:
    return SettingsError(
        f"boto3 refuses its settings: {error}",
        "AWS_... variables, AWS configuration files",
        "correct them, or unset what you do not need",
    )
