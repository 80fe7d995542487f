"""Which errors an object may be blamed for, and which the machine explains."""

import errno
import io
import subprocess
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.blame import is_object_error
from tasks.core.formats import reading
from tasks.core.formats.parquet import process


@pytest.mark.parametrize(
    "number",
    [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EPERM,
     errno.ESTALE, errno.ENETUNREACH],
    ids=errno.errorcode.get,
)  # fmt: skip
def test_a_machine_at_its_limits_is_no_objects_fault(number: int) -> None:
    assert not is_object_error(OSError(number, "the kernel refuses"))
    assert is_object_error(OSError("Invalid: a page is damaged"))  # as pyarrow says it
    assert is_object_error(OSError(errno.EINVAL, "Invalid argument"))


def test_a_thread_that_cannot_be_started_is_no_objects_fault() -> None:
    assert not is_object_error(RuntimeError("can't start new thread"))
    assert is_object_error(RuntimeError("the tokenizer is confused"))


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM], ids=errno.errorcode.get)
def test_a_decoder_that_cannot_be_started_is_not_the_files_fault(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(number, "no new process")

    process.end_idle()
    monkeypatch.setattr(subprocess, "Popen", refused)
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": ["a"]}), buffer)
    buffer.seek(0)
    with pytest.raises(OSError, match="no new process") as caught:
        list(reading.decode("r.parquet", buffer))
    assert not is_object_error(caught.value)
