"""Every error a person can cause or mend, as one tree.

    NightshiftError
    |-- SettingsError          a parameter or a setting that cannot work
    |-- DataError              the reviews themselves
    |   |-- MissingDataError       no such file, bucket, prefix, split or column
    |   |-- UnreadableDataError    the bytes are not what they claim to be
    |   |-- UnwritableDataError    values that the output's format cannot hold
    |   |-- OverwrittenError       another version of it is there now
    |   |-- ForbiddenDataError     the store does not give this object, though it gives others
    |   `-- ValidationError        readable, but not fit to train or score on
    |-- ModelError             a base model or a registered model that cannot be used
    |-- StoreError             the object store refuses
    |   `-- StoreAwayError         it does not answer: trying later may help
    |-- RegistryError          the model registry refuses
    |   |-- RegistryAwayError      it does not answer: trying later may help
    |   `-- ConflictError          somebody else has moved the champion meanwhile
    |-- ServiceError           a server does not come up, or stays away
    |   `-- ChildEndedError        one of ours ended by itself
    |-- PoolError              a run on another work pool failed
    |   `-- RunDiedError           it died, and may be tried again
    `-- DiskFullError          no room to write

An error says WHAT is wrong, WHERE (bucket, key, row, field) and what to DO about it; review text never enters it, and
user names and passwords of URLs are taken out.
"""

import errno

from tasks.core.readable import on_one_line, without_passwords

_DISK_FULL = ("No space left", "os error 28", "os error 122", "Disk quota exceeded", "disk is full")

#: What the code of a model raises where it is run otherwise than it was written for.
RAISED_BY_MODELS = (
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


class NightshiftError(Exception):
    """Base of every error that is shown to people as a sentence and not as a stack trace."""

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        what, where, fix = map(without_passwords, (what, where, fix))
        # positional, so that it survives pickling between processes
        super().__init__(what, where, fix)
        self.what, self.where, self.fix = what, where, fix

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self}"  # Prefect logs a failed task by its error's repr

    def __str__(self) -> str:
        place = f" [{self.where}]" if self.where else ""
        advice = f" -> {self.fix}" if self.fix else ""
        return on_one_line(f"{self.what}{place}{advice}")  # names and keys of others are in it


class SettingsError(NightshiftError):
    """A parameter or a setting that cannot work."""


class DataError(NightshiftError):
    """Something about the reviews themselves."""


class MissingDataError(DataError):
    """No such file, bucket, prefix, split or column."""


class UnreadableDataError(DataError):
    """The bytes are not what they claim to be."""


class UnwritableDataError(DataError):
    """Values that the output's format cannot hold."""


class OverwrittenError(DataError):
    """Another version of an object is there now than the one that was listed, or none."""


class ForbiddenDataError(DataError):
    """The store does not give this object (its rights, its encryption, an archive), though it may give others."""


class ValidationError(DataError):
    """Readable, but not fit to train or score on."""


class ModelError(NightshiftError):
    """A base model or a registered model that cannot be used."""


class StoreError(NightshiftError):
    """The object store refuses."""


class StoreAwayError(StoreError):
    """The object store does not answer; trying later may help."""


class RegistryError(NightshiftError):
    """The model registry refuses."""


class RegistryAwayError(RegistryError):
    """The model registry does not answer; trying later may help."""


class ConflictError(RegistryError):
    """Somebody else has moved the champion meanwhile: what was judged against the one before must be judged again."""


class ServiceError(NightshiftError):
    """A server does not come up, or stays away."""


class ChildEndedError(ServiceError):
    """A server that was started here ended by itself."""


class PoolError(NightshiftError):
    """A run on another work pool failed or was cancelled."""


class RunDiedError(PoolError):
    """It died with its process or its worker, and may be tried again."""


class DiskFullError(NightshiftError):
    """No room to write."""


def first_line(error: BaseException) -> str:
    """What an error of a library's says, without the rest of its page; its type where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def is_disk_full(error: BaseException | None) -> bool:
    """True when an error, or what caused it, is a full disk; safetensors and SQLite say it in their own words."""
    seen = 0
    while error is not None and seen < 10:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(error) for words in _DISK_FULL):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False


def disk_full(doing: str, setting: str = "TMPDIR") -> DiskFullError:
    """The error to raise then."""
    return DiskFullError(
        f"The disk became full while {doing}",
        "",
        f"free some space, or set {setting} to a larger disk",
    )
