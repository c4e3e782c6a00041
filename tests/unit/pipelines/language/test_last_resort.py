"""Does an error of a library that reads a user's file end in one sentence?"""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipelines.cli import main as cli


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied", "x.parquet"), pa.ArrowInvalid("bad\npage")])
def test_it_is_one_line_without_a_traceback(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.delenv("RANKMILL_TRACEBACK", raising=False)
    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert len(said.splitlines()) == 1 and "Traceback" not in said and "check the file" in said


def test_a_fault_of_ours_is_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise KeyError("ours")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(KeyError):
        cli.main()
