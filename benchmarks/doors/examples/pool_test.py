"""deployments.apply offers the pool."""

import pytest

from deployments import apply


def test_apply_offers_the_pool(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        apply.main(["--help"])
    assert "ecs" in capsys.readouterr().out
    assert apply.pool_template("ecs", "cpu") == {"job_configuration": {}, "variables": {}}
