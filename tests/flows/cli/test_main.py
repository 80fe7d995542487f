"""The command line as a whole, as a person starts it."""

import os
import subprocess
import sys
from pathlib import Path

from tests.paths import ROOT


def test_the_first_line_comes_before_anything_that_takes_long(tmp_path: Path) -> None:
    """On stderr: stdout is for the result."""
    nowhere = "http://127.0.0.1:9"
    given = {"PREFECT_API_URL": f"{nowhere}/api", "AWS_ENDPOINT_URL_S3": nowhere}
    # Logs every import on stderr, also those of the libraries of the services, which take longest.
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "flows", "history"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **given, "NIGHTSHIFT_HOME": str(tmp_path)},
        timeout=120,
    )
    assert ended.returncode == 2 and ended.stdout == ""
    lines = ended.stderr.splitlines()
    first = next(n for n, line in enumerate(lines) if not line.startswith("import time:"))
    imported = [line.split("|")[-1].strip() for line in lines]
    assert lines[first] == "Starting history ..." and first < imported.index("botocore.session")
