"""Work folders: gone afterwards, whatever happens, and a full disk said in a sentence."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tasks.connectors.work_folders import remove_left_folders
from tasks.core.errors import DiskFullError
from tasks.runtime.steps import work_folder
from tests.paths import ROOT


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space"), RuntimeError("No space left on device (os error 28)")],
)
def test_a_full_disk_is_named(error: Exception) -> None:
    folders: list[Path] = []

    def fill() -> None:
        with work_folder("test") as folder:
            folders.append(folder)
            raise error

    with pytest.raises(DiskFullError, match="making test"):
        fill()
    assert not folders[0].exists()


def test_another_error_stays_itself() -> None:
    with pytest.raises(KeyError), work_folder("test"):
        raise KeyError("x")


def test_folders_of_the_dead_are_removed_and_of_the_living_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = (
        f"import os, tempfile; tempfile.tempdir = {str(tmp_path)!r}\n"
        "from tasks.runtime.steps import work_folder\n"
        "with work_folder('test'): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", killed], cwd=ROOT, check=False)
    (left,) = tmp_path.iterdir()
    (tmp_path / "nightshift~elsewhere~1~0~test~x").mkdir(
        0o700
    )  # another machine's, on a shared disk
    link = tmp_path / f"{left.name}-link"  # made by somebody who wants us to remove it
    link.symlink_to(tmp_path / "nightshift~elsewhere~1~0~test~x")
    old, new = (tmp_path / f"nightshift-engine-{name}" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(0o700)
    os.utime(old, (0, 0))
    with work_folder("living") as folder:
        assert sorted(remove_left_folders()) == [old.name, left.name]
        assert folder.exists() and new.exists() and link.is_symlink()
        assert len(list(tmp_path.iterdir())) == 4
