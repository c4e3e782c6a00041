"""Does the command line say what it should, where it should, with the right exit status?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from components.platform.catalog import catalog
from components.platform.errors import BadInputError, MissingError
from components.platform.settings import ROOT
from pipelines.cli import main as cli
from pipelines.language.load import pipeline_names, pipeline_path
from pipelines.language.profile import profile_files
from pipelines.language.serving import serving_files

GOLDEN = ROOT / "tests" / "golden" / "errors"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RANKMILL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, arguments)


def process(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    code = "from pipelines.cli.main import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    env = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environ}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=env)


def test_validate_passes_all_shipped_pipelines() -> None:
    result = ask("validate")
    assert result.exit_code == 0
    profiles = [f"profile {name}" for name in sorted(profile_files())]
    services = [f"service {name}" for name in sorted(serving_files())]
    lines = result.output.splitlines()
    told = [line for line in lines if ": warning: " in line]
    assert [line.split(":")[0] for line in lines if line not in told] == [*pipeline_names(), *profiles, *services]
    assert [line.split(":")[0] for line in told] == [
        "movielens_continued", "movielens_daily", "movielens_many", "movielens_memory", "movielens_searched",
        "movielens_tuned", "movielens_weekly",
    ]  # fmt: skip


def test_validate_warns_of_a_channel_that_nothing_sends_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.language import notify

    monkeypatch.setitem(notify.PROVIDERS, "slack", "apache-airflow-providers-nowhere")
    file = tmp_path / "param_forms.yaml"
    text = (GOLDEN.parent / "accepted" / "param_forms.yaml").read_text()
    file.write_text(text)
    result = ask("validate", str(file))
    assert result.exit_code == 0
    assert "param_forms: warning: notify.failure tells through slack, which needs apache-airflow-providers-nowhere" in (
        result.output
    )


def test_validate_reports_every_problem_of_every_file() -> None:
    wrong = [str(GOLDEN / f"{kind}.yaml") for kind in ("many", "cycle")]
    result = ask("validate", "movielens_daily", *wrong, "movielens_dayly", "absent.yaml")
    assert result.exit_code == 2
    for kind in ("many", "cycle"):
        assert (GOLDEN / f"{kind}.txt").read_text(encoding="utf-8").strip() in result.stderr
    assert "did you mean 'movielens_daily'" in result.stderr
    assert "no pipeline file absent.yaml" in result.stderr
    assert "4 of 5 pipelines have problems" in result.stderr
    assert result.stdout.startswith("movielens_daily: ")


def test_plan_as_json_holds_predictions_and_writes_nothing(home: Path) -> None:
    result = ask("plan", "movielens_daily", "--json", "--param", "epochs=7")
    assert result.exit_code == 0
    value = json.loads(result.output)
    assert value["stages"][0]["prediction"]["state"] == "miss"
    assert not home.exists()


def test_plan_as_a_table_names_every_stage(home: Path) -> None:
    result = ask("plan", "movielens_memory")
    assert result.exit_code == 0
    for name in ("ingest", "contract", "features", "stream", "memory"):
        assert f"\n{name} " in result.output
    assert "0 of 5 stages come from the cache" in result.output


@pytest.mark.parametrize(
    "arguments", [("plan", "movielens_daily", "-p", "epochs=0"), ("plan", "movielens_daily", "-p", "x=1")]
)
def test_a_wrong_param_is_bad_input(arguments: tuple[str, ...], home: Path) -> None:
    assert isinstance(ask(*arguments).exception, BadInputError)


def test_graph_draws_text_and_mermaid() -> None:
    assert ask("graph", "movielens_daily").output.startswith("movielens_daily (0 2 * * * UTC)\n")
    assert ask("graph", "movielens_daily", "--format", "mermaid").output.startswith("graph LR\n")
    assert ask("graph", "movielens_daily", "--format", "svg").exit_code == 2


def test_components_are_listed_and_shown_in_detail() -> None:
    listing = ask("components").output
    assert all(name in listing for name in catalog())
    detail = ask("components", "train_ranker").output
    for words in (
        "input dataset: training_set",
        "output ranker: ranker",
        "ranker.name",
        "required",
        "uses: train_ranker",
    ):
        assert words in detail
    watch = ask("components", "watch_drift").output
    assert "input rows: labelled_rows" in watch and "input joined, if any: labelled_rows" in watch
    assert isinstance(ask("components", "train_rankr").exception, MissingError)


def test_schema_is_printed_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(ask("schema").output)["description"] == "A whole pipeline file."
    assert ask("schema", "--check").exit_code == 0
    from pipelines.show.reference import schema

    monkeypatch.setattr(schema, "DRAFT", "an older one")
    assert isinstance(ask("schema", "--check").exception, BadInputError)
    for name, file in [*vars(schema).items()]:
        if name.endswith("SCHEMA_FILE"):
            monkeypatch.setattr(schema, name, tmp_path / "new" / file.name)
    assert ask("schema", "--write").exit_code == 0
    assert (tmp_path / "new" / "pipeline.schema.json").read_text(encoding="utf-8") == schema.schema_texts()[
        schema.SCHEMA_FILE
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[1]", "must be a block of keys"),
        ('{"component": "export_onnx"}', "request of component 'export_onnx'"),
        ('{"windw": {}, "config": 3}', "unknown key 'windw'"),
        ('{"config": {}}', "key 'window' is missing"),
        ('{"window": {"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}}', "is empty"),
    ],
)
def test_a_wrong_request_for_one_component_is_told(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    path.write_text(text)
    error = ask("component", "run", "ingest_household", str(path)).exception
    assert isinstance(error, BadInputError) and words in str(error)


def test_errors_are_one_message_on_stderr_and_a_traceback_only_on_request() -> None:
    done = process("graph", "movielens_dayly")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "no pipeline 'movielens_dayly' (did you mean 'movielens_daily'?)\n"
    done = process("graph", "movielens_dayly", RANKMILL_TRACEBACK="1")
    assert done.returncode == 2
    assert "Traceback" in done.stderr and "MissingError" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("validate",),
        ("plan", "movielens_daily"),
        ("plan", "kuairand_daily", "--json", "--from", "train"),
        ("graph", "movielens_daily", "--cache"),
        ("runs",),
        ("run", "movielens_daily", "--help"),
    ],
    ids=" ".join,
)
def test_looking_imports_no_engine(arguments: tuple[str, ...], home: Path) -> None:
    code = (
        f"import sys\nfrom pipelines.cli.main import main\nsys.argv = ['rankmill', *{arguments!r}]\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"airflow", "torch", "ray", "feast", "mlflow", "great_expectations", "onnxruntime", "pandas"}
    heavy |= {"pyarrow", "polars", "numpy", "duckdb", "sklearn", "matplotlib"}
    assert set(done.stderr.split()) & heavy == set()


def test_show_prints_a_file_and_all_that_it_takes(tmp_path: Path) -> None:
    plain = ask("show", "movielens_1m")
    assert (plain.exit_code, plain.output) == (0, pipeline_path("movielens_1m").read_text(encoding="utf-8"))
    whole = ask("show", "--resolved", "movielens_1m").output.splitlines()
    assert "name: movielens_1m  # movielens_1m.yaml:2" in whole and "owner: ranking  # defaults.yaml:3" in whole
    assert any("files: " in line and "# shared/movielens_1m_log.yaml:" in line for line in whole)
    (tmp_path / "x.yaml").write_text("name: x\nextends: y.yaml\n")
    broken = ask("show", "--resolved", str(tmp_path / "x.yaml"))
    assert broken.exit_code != 0 and "there is no file" in str(broken.exception)
