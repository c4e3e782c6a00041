"""Is the embedded Airflow private to this machine, made once, and weaker than the user's own settings?"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from components.platform.errors import StorageError
from components.platform.settings import ROOT, Settings
from pipelines.run.airflow_home import (
    environment,
    in_process_environment,
    initialise,
    page,
    password,
    password_file,
    private_home,
    secret,
)

DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"


def test_another_process_reads_the_same_settings(tmp_path: Path) -> None:
    settings = Settings.at(tmp_path / "home")
    assert Settings.from_environment(settings.environment()) == settings


def test_defaults_bind_to_loopback_and_take_the_shipped_dags(tmp_path: Path) -> None:
    env = environment(Settings.at(tmp_path), {"PATH": "/usr/bin"}, api_port=8123)
    assert env["AIRFLOW__API__HOST"] == "127.0.0.1" and env["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:8123"
    assert env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8123/execution/"
    assert env["AIRFLOW__CORE__DAGS_FOLDER"] == str(ROOT / "dags")
    assert env[DATABASE] == f"sqlite:///{tmp_path}/airflow/airflow.db"
    assert "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL" not in env, "every file each 5 s keeps a core busy"
    assert env["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"] == "False"
    assert env["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]
    assert env["PYTHONPATH"] == str(ROOT)


def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    own = {
        "AIRFLOW__CORE__PARALLELISM": "64",
        DATABASE: "postgresql://db/airflow",
        "PYTHONPATH": f"/mine:{ROOT}",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "me:viewer",
    }
    env = environment(Settings.at(tmp_path), own)
    assert {name: env[name] for name in own if name != "PYTHONPATH"} == {
        k: v for k, v in own.items() if k != "PYTHONPATH"
    }
    assert env["PYTHONPATH"] == os.pathsep.join([str(ROOT), "/mine"])


def test_a_run_in_one_process_never_shares_a_schedulers_database(tmp_path: Path) -> None:
    env = in_process_environment(Settings.at(tmp_path), tmp_path / "own", {DATABASE: "postgresql://db/airflow"})
    assert env[DATABASE] == f"sqlite:///{tmp_path}/own/airflow.db"
    assert env["AIRFLOW__CORE__DAGS_FOLDER"] == str(tmp_path / "own" / "dags")


def test_the_secret_is_made_once_is_long_and_is_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "secret"
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: secret(path), range(16)))
    assert len(made) == 1
    assert len(bytes.fromhex(made.pop())) == 64
    assert path.stat().st_mode & 0o777 == 0o600


def test_airflows_password_is_made_once_and_nobody_is_admin_without_it(tmp_path: Path) -> None:
    settings = Settings.at(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: password(settings), range(8)))
    assert len({word for word, _ in made}) == 1 and len(made[0][0]) >= 20
    assert [fresh for _, fresh in made].count(True) == 1
    assert password_file(settings).stat().st_mode & 0o777 == 0o600
    env = environment(settings, {})
    assert env["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"] == str(password_file(settings))
    assert "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS" not in env


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home of a name that means something to Airflow, SQLAlchemy and MLflow, made by two first users at once.

    Airflow reads its configuration with ``%`` as a sign of its own, SQLAlchemy its URLs, MLflow its URIs.
    """
    settings = Settings.at(tmp_path_factory.mktemp("first users") / "my hömé p%20x #1 ?")
    imports = "from pipelines.run.airflow_home import initialise; from components.platform.settings import Settings"
    code = f"{imports}; initialise(Settings.from_environment())"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "RANKMILL", "MLFLOW_T"))}
    env |= {"RANKMILL_HOME": str(settings.home), "PYTHONPATH": str(ROOT)}
    first_users = [subprocess.Popen([sys.executable, "-c", code], env=env) for _ in range(2)]
    assert [user.wait(150) for user in first_users] == [0, 0]
    return settings


@pytest.mark.engine
def test_two_first_users_at_once_get_one_working_database(shared: Settings) -> None:
    settings = shared
    for file in (settings.airflow_home / "airflow.db", settings.home / "mlflow" / "mlflow.db"):
        with closing(sqlite3.connect(file)) as connection:
            assert len(connection.execute("select version_num from alembic_version").fetchall()) == 1

    before = (settings.airflow_home / "airflow.db").stat().st_mtime_ns
    initialise(settings)
    assert (settings.airflow_home / "airflow.db").stat().st_mtime_ns == before

    killed = settings.airflow_home / "in_process" / "999999999-dead"
    killed.mkdir(parents=True)
    with private_home(settings) as one, private_home(settings) as other:
        assert one != other and (one / "airflow.db").exists() and (other / "dags").is_dir()
        assert not killed.exists()
    assert not one.exists() and not other.exists()


@pytest.mark.parametrize("name", ["my home", "hömé", "c#x", "p%20x", "q?x", "50%"])
def test_a_database_lies_in_the_folder_of_its_name(tmp_path: Path, name: str) -> None:
    from sqlalchemy import create_engine

    (tmp_path / name).mkdir()
    settings = Settings.at(tmp_path / name)
    settings.airflow_home.mkdir()
    for url in (environment(settings, {})[DATABASE], in_process_environment(settings, settings.airflow_home)[DATABASE]):
        create_engine(url).connect().close()
        assert [path.name for path in tmp_path.iterdir()] == [name]
        assert (settings.airflow_home / "airflow.db").exists()


@pytest.mark.engine
def test_airflow_and_mlflow_start_in_a_home_of_any_name(shared: Settings) -> None:
    settings, folder = shared, shared.home.parent
    # MLflow makes the folder of its URL too, as it is written there; it stays empty.
    files = [path.relative_to(folder).parts[0] for path in folder.rglob("*") if path.is_file()]
    assert set(files) == {settings.home.name}
    for file, table in (
        (settings.airflow_home / "airflow.db", "dag_run"),
        (settings.home / "mlflow/mlflow.db", "runs"),
    ):
        with closing(sqlite3.connect(file)) as database:
            assert database.execute(f"select count(*) from {table}").fetchone() == (0,)
    asked = [sys.executable, "-m", "airflow", "config", "get-value", "database", "sql_alchemy_conn"]
    said = subprocess.run(asked, env=environment(settings), capture_output=True, text=True, check=True).stdout
    assert said.strip().endswith(environment(settings)[DATABASE])


def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*file/home/airflow: Not a directory; free space or move"):
        initialise(Settings.at(tmp_path / "file" / "home"))


def test_the_page_is_shown_unless_the_user_has_plugins_of_their_own(tmp_path: Path) -> None:
    settings = Settings.at(tmp_path)
    plugins, address = "AIRFLOW__CORE__PLUGINS_FOLDER", "RANKMILL_PAGE"
    shown = page(settings, 9000, {})
    assert [path.name for path in Path(shown[plugins]).glob("*.py")] and shown[address].startswith(
        "http://127.0.0.1:9000"
    )
    assert plugins not in page(settings, 9000, {plugins: "/own"})
    given = replace(settings, page="https://airflow.example/plugin/rankmill/rankmill")
    assert page(given, 9000, {})[address] == given.page
    (settings.airflow_home / "plugins").mkdir(parents=True)
    assert plugins not in page(settings, 9000, {})
