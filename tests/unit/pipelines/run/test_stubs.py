"""Are stubs kept in step with the pipelines without touching what people wrote?"""

from __future__ import annotations

from pathlib import Path

from pipelines.run.stubs import stale_stubs, stub_of, write_stubs


def test_write_makes_check_pass_and_the_second_write_does_nothing(tmp_path: Path) -> None:
    assert len(stale_stubs(["a", "b"], tmp_path)) == 2
    assert len(write_stubs(["a", "b"], tmp_path)) == 2
    assert stale_stubs(["a", "b"], tmp_path) == []
    assert write_stubs(["a", "b"], tmp_path) == []


def test_a_changed_stub_and_one_without_a_pipeline_are_named_and_mended(tmp_path: Path) -> None:
    write_stubs(["a", "gone"], tmp_path)
    (tmp_path / "a.py").write_text(stub_of("a") + "x = 1\n")
    found = stale_stubs(["a"], tmp_path)
    assert [("a.py" in line, "gone.py" in line) for line in found] == [(True, False), (False, True)]
    write_stubs(["a"], tmp_path)
    assert (tmp_path / "a.py").read_text() == stub_of("a")
    assert not (tmp_path / "gone.py").exists()


def test_a_hand_written_dag_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text('"""My own Airflow DAG."""\n')
    write_stubs(["a"], tmp_path)
    assert mine.exists() and stale_stubs(["a"], tmp_path) == []
