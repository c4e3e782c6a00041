"""Does a job of a Ray cluster get no variable of this process, which Ray would write to its logs?"""

from __future__ import annotations

import pytest

from components.train.train_ranker import remote


def test_a_job_is_given_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKMILL_PROD_S3_SECRET", "s3cr3t")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    given = remote._environment()
    assert "PYTHONPATH" in given and "s3cr3t" not in given.values()
    assert not [name for name in given if name.startswith(("RANKMILL_", "AWS_"))]
