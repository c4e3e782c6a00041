"""Does the doctor find what is wrong, and say what to do?"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from components.platform.errors import BadInputError
from components.platform.settings import ROOT, Settings
from pipelines.run import doctor
from pipelines.run.doctor import Check, examine, rooms_problem
from pipelines.run.servers import port_is_busy, serve


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_this_environment_is_fit(tmp_path: Path) -> None:
    failed = [check for check in examine(Settings.at(tmp_path)) if not check.passed]
    assert failed == []


def test_packages_of_another_tree_are_named_with_both_paths(tmp_path: Path) -> None:
    assert rooms_problem(ROOT) is None
    problem = rooms_problem(tmp_path)
    assert problem is not None and str(ROOT / "pipelines") in problem and str(tmp_path) in problem


def test_a_release_that_differs_from_its_pin_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "constraints.txt").write_text(
        "# all\nray==1.0.0\nray[train]==1.0.0\npolars==2.1.0 ; python_version > '3'\n"
    )
    (tmp_path / "pyproject.toml").write_text('dependencies = [\n  "mlflow==9.9.9",  # newer\n]\n')
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    found = by_name(examine(Settings.at(tmp_path / "home")))["engines"]
    assert not found.passed
    assert "ray is 2" in found.found and "pinned 1.0.0" in found.found and "pinned 9.9.9" in found.found
    assert "polars" not in found.found and "make install" in found.found


def test_a_channel_that_nothing_can_send_through_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.language import notify

    pipeline = "name: shop\nwindow: {days: 1}\nnotify: {failure: {email: {connection: mail, to: [a@b.c]}}}\n"
    (tmp_path / "shop.yaml").write_text(f"{pipeline}stages: {{a: {{uses: promote_model}}}}\n")
    shipped = int(next(doctor._channels(Settings.at(tmp_path))).found.split()[0])
    monkeypatch.setenv("RANKMILL_PIPELINES", str(tmp_path))
    sound = next(doctor._channels(Settings.at(tmp_path)))
    assert sound.passed and f"{shipped + 1} pipelines tell people" in sound.found
    monkeypatch.setitem(notify.PROVIDERS, "email", "apache-airflow-providers-nowhere")
    wrong = next(doctor._channels(Settings.at(tmp_path)))
    assert not wrong.passed and wrong.found.endswith("it is not installed: install the extra `notify`")


def test_a_home_that_cannot_be_written_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    checks = by_name(examine(Settings.at(tmp_path / "file" / "home")))
    assert not checks["home"].passed and "RANKMILL_HOME" in checks["home"].found


def test_a_broken_tracking_database_fails(tmp_path: Path) -> None:
    settings = Settings.at(tmp_path)
    file = Path(settings.tracking_uri.removeprefix("sqlite:///"))
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no database at all, but long enough to be looked at" * 20)
    check = by_name(examine(settings))["MLflow"]
    assert not check.passed and str(file) in check.found


def test_a_busy_port_stops_the_servers_before_anything_is_made(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port_is_busy(port)
        with pytest.raises(BadInputError, match=rf"port {port} .* --airflow-port"):
            serve(Settings.at(tmp_path / "home"), lambda line: None, airflow_port=port)
    assert not port_is_busy(port)
    assert not (tmp_path / "home").exists()
