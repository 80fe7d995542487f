"""All errors that people can cause or fix, as one tree.

    NightshiftError
    |-- SettingsError          a parameter or a setting that cannot work
    |-- DataError              the reviews themselves
    |   |-- MissingDataError       no such file, bucket, prefix, split or column
    |   |-- UnreadableDataError    the bytes are not what they claim to be
    |   |-- UnwritableDataError    values that the output's format cannot hold
    |   |-- OverwrittenError       the object has changed since it was listed, or is gone
    |   |-- ForbiddenDataError     the store refuses this object, though it gives others
    |   `-- ValidationError        readable, but not fit to train or score on
    |-- ModelError             a base model or a registered model that cannot be used
    |-- StoreError             the object store refuses
    |   `-- StoreUnavailableError         it does not answer: a retry may help
    |-- RegistryError          the model registry refuses
    |   |-- RegistryUnavailableError      it does not answer: a retry may help
    |   `-- ConflictError          somebody else has moved the champion meanwhile
    |-- ServiceError           a server does not start, or stays away
    |   `-- ChildEndedError        a server started here ended by itself
    |-- PoolError              a run on another work pool failed or was cancelled
    |   `-- RunCrashedError           it died with its process or worker: a retry may help
    `-- DiskFullError          no room to write

An error says WHAT is wrong, WHERE (bucket, key, row, field) and what to DO about it. It never contains review text,
and user names and passwords of URLs are removed from it.
"""

import errno

from tasks.core.readable import on_one_line, without_passwords

_DISK_FULL = ("No space left", "os error 28", "os error 122", "Disk quota exceeded", "disk is full")

#: Exceptions that a model's code raises when it is run in a way it was not written for.
RAISED_BY_MODELS = (
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


class NightshiftError(Exception):
    """Base class of errors that people see as a sentence instead of a stack trace."""

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        what, where, fix = map(without_passwords, (what, where, fix))
        # Positional arguments, so that the error survives pickling between processes.
        super().__init__(what, where, fix)
        self.what, self.where, self.fix = what, where, fix

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self}"  # Prefect logs the repr of a failed task's error

    def __str__(self) -> str:
        location = f" [{self.where}]" if self.where else ""
        advice = f" -> {self.fix}" if self.fix else ""
        return on_one_line(f"{self.what}{location}{advice}")  # it holds names and keys of others


class SettingsError(NightshiftError):
    """A parameter or a setting that cannot work."""


class DataError(NightshiftError):
    """A problem with the reviews themselves."""


class MissingDataError(DataError):
    """A file, bucket, prefix, split or column that does not exist."""


class UnreadableDataError(DataError):
    """Bytes that are not what they claim to be."""


class UnwritableDataError(DataError):
    """Values that the output's format cannot hold."""


class OverwrittenError(DataError):
    """An object that was overwritten or deleted after it was listed."""


class ForbiddenDataError(DataError):
    """An object that the store refuses (rights, encryption, an archive), though it may give others."""


class ValidationError(DataError):
    """Data that is readable, but not fit to train or score on."""


class ModelError(NightshiftError):
    """A base model or a registered model that cannot be used."""


class StoreError(NightshiftError):
    """A refusal of the object store."""


class StoreUnavailableError(StoreError):
    """An object store that does not answer; a retry may help."""


class RegistryError(NightshiftError):
    """A refusal of the model registry."""


class RegistryUnavailableError(RegistryError):
    """A model registry that does not answer; a retry may help."""


class ConflictError(RegistryError):
    """A champion that somebody else has moved meanwhile: the challenger must be judged again, against the new one."""


class ServiceError(NightshiftError):
    """A server that does not start, or stays away."""


class ChildEndedError(ServiceError):
    """A server started here that ended by itself."""


class PoolError(NightshiftError):
    """A run on another work pool failed or was cancelled."""


class RunCrashedError(PoolError):
    """A run that died with its process or its worker, and may be tried again."""


class DiskFullError(NightshiftError):
    """A disk without room to write."""


def first_line(error: BaseException) -> str:
    """Return the first line of a library error's message, or the error's type if it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def is_disk_full(error: BaseException | None) -> bool:
    """True if an error or one of its causes is a full disk; safetensors and SQLite have their own words for it."""
    seen = 0
    while error is not None and seen < 10:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(error) for words in _DISK_FULL):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False


def disk_full(doing: str, setting: str = "TMPDIR") -> DiskFullError:
    """Return the error to raise when the disk is full."""
    return DiskFullError(
        f"The disk became full while {doing}",
        "",
        f"free some space, or set {setting} to a larger disk",
    )
