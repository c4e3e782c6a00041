"""Who may see Rankmill's pages in Airflow, what do they show, and what can nobody read through them?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest

from components.judge.watch_drift.report import Cell, Report, settled
from components.platform.artifacts import DataDocs, DriftReport, EventsTable, Ranker
from components.platform.execute import run_folder
from components.platform.settings import ROOT, Settings
from features.declaration import Window
from features.ground.files import write_durably
from pipelines.record import runs
from pipelines.record.runs import RunStart
from tests.unit.components.judge.watch_drift.streams import START, day
from tests.unit.pipelines.run.test_summary import Records

NASTY = "<script>alert(1)</script>"
RUN = "manual__2026-01-02T03:04:05.6+00:00"
MOVED = Cell(check="level", of=NASTY, rows=9, now=0.9, before=0.1, change=0.9, limit=0.1, chance=1e-9)
WINDOW = Window(start=START, end=START + timedelta(days=3))


class Tags(HTMLParser):
    """Tags and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    records = Records(tmp_path_factory.mktemp("home"))
    report = Report(
        model="shop", version=3, digest="d", rows_digest="r", baseline_rows=9, baseline_users=2, baseline_window=WINDOW,
        every="1d", false_alarms=0.01, days=settled([day(0, ()), day(1, (MOVED,))], 0.01),
    )  # fmt: skip
    results = [
        records.stage("ingest", EventsTable, {"events.parquet": "rows of people"}),
        records.stage("contract", DataDocs, {"index.html": f"<p>found {NASTY}"}, notes=[NASTY]),
        records.stage("train", Ranker, {"curves.png": "a picture", "weights.safetensors": "secret"}),
        records.stage("watch", DriftReport, {"drift.json": report.model_dump_json(), "drift.html": "<p>"}),
    ]
    stages = tuple(result.stage for result in results)
    for pipeline in ("shop", "other"):
        start = RunStart(pipeline=pipeline, run_id=RUN, moment=START, started_at=START, stages=stages)
        runs.write_start(records.settings, start)
        for result in results:
            folder = run_folder(records.settings, pipeline, RUN)
            write_durably(folder / f"{result.stage}.json", result.model_dump_json())
    return records.settings


@pytest.fixture
def app(home: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The app behind Airflow's own manager of users, whose database knows no teams."""
    from airflow.api_fastapi import app as server
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
    from airflow.models.dag import DagModel

    from pipelines.run.plugins.rankmill_page import make_app

    class Manager(SimpleAuthManager):
        def is_authorized_dag(self, *, method: Any, user: Any, access_entity: Any = None, details: Any = None) -> bool:
            allowed = super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)
            return allowed and (user.username != "guest" or details is None or details.id in (None, "shop"))

    monkeypatch.setenv("RANKMILL_HOME", str(home.home))
    for name in ("RANKMILL_PROFILE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(server._AuthManagerState, "instance", Manager())
    monkeypatch.setattr(DagModel, "get_team_name", staticmethod(lambda dag_id, **_: None))
    yield make_app()


@pytest.fixture
def ask(app: Any) -> Any:
    """Ask for a page as a user, who is the only thing that is made up."""
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user
    from starlette.testclient import TestClient

    client = TestClient(app)

    def get(path: str, user: str | None = "ada", role: str | None = "viewer") -> Any:
        app.dependency_overrides.clear()
        if user is not None:
            app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username=user, role=role)
        return client.get(path)

    return get


def of_run(*parts: str, pipeline: str = "shop") -> str:
    return "/".join((f"/dags/{pipeline}/runs", *(quote(part, safe="") for part in (RUN, *parts))))


PAGES = ("/", "/models/shop", "/dags/shop", of_run(), of_run("stages", "contract", "out"))


def test_nobody_without_a_login_or_the_right_to_read_dags_sees_a_page(ask: Any, app: Any) -> None:
    assert {ask(page, user=None).status_code for page in PAGES} == {401}
    assert {ask(page, role=None).status_code for page in PAGES} == {403}
    assert {ask(path, user=None).status_code for path in ("/docs", "/openapi.json", "/redoc")} == {404}
    shown = {route.path for route in app.routes}
    assert len(shown) == len(PAGES), "every page is asked for above"


def test_who_may_read_one_dag_sees_nothing_of_another(ask: Any) -> None:
    assert ask(of_run(), user="guest").status_code == 200
    assert ask(of_run(pipeline="other"), user="guest").status_code == 403
    assert "other" in ask("/").text and "other" not in ask("/", user="guest").text


def test_pages_show_runs_drift_and_cost_and_link_to_each_other(ask: Any) -> None:
    first = ask("/")
    page = Tags(first.text)
    assert of_run() in page.links and "/dags/shop" in page.links
    assert "the mean of" in first.text and "●" in first.text and "script" not in page.tags
    assert "&lt;script&gt;" in first.text
    cost = ask("/dags/shop")
    assert "ingest" in cost.text and of_run("stages", "train", "out") in Tags(cost.text).links
    for link in {*page.links, *Tags(cost.text).links}:
        assert ask(link).status_code == 200, link
    assert "script" not in Tags(ask(of_run()).text).tags and "contract" in ask(of_run()).text


def test_a_page_may_do_nothing_but_show_what_is_in_it(ask: Any) -> None:
    for path in (*PAGES, "/dags/shop/runs/unknown"):
        headers = ask(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src" not in policy and "frame-ancestors 'self'" in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
    made = ask(of_run("stages", "contract", "out"))
    assert NASTY in made.text and made.headers["content-security-policy"].startswith("sandbox;")


def test_only_pages_and_pictures_of_published_artifacts_can_be_read(ask: Any, home: Settings) -> None:
    assert ask(of_run("stages", "train", "out")).content == b"a picture"
    for parts in (("ingest", "out"), ("train", "in"), ("nobody", "out"), ("..", "out"), ("run", "json")):
        assert ask(of_run("stages", *parts)).status_code == 404, parts
    for pipeline, run in (("~", RUN), ("shop", ".."), ("..", "shop"), ("shop", "../other"), ("nope", RUN)):
        answer = ask(f"/dags/{quote(pipeline, safe='')}/runs/{quote(run, safe='')}".replace("..", "%2E%2E"))
        assert answer.status_code == 404 and "secret" not in answer.text, (pipeline, run)
    page = next((home.home / "artifacts" / "contract").rglob("index.html"))
    was = page.read_text()
    page.write_text("<p>changed by hand")
    try:
        answer = ask(of_run("stages", "contract", "out"))
        assert answer.status_code == 503 and "is changed" in answer.text and "by hand" not in answer.text
    finally:
        page.write_text(was)


def test_loading_the_plugin_imports_nothing_of_ours() -> None:
    """A stub in a bundle must find its own tree's packages, in every process of Airflow."""
    code = (
        "import sys\nfrom airflow._shared.plugins_manager import _load_plugins_from_plugin_directory as load\n"
        f"plugins, errors = load({str(ROOT / 'pipelines' / 'run' / 'plugins')!r})\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "rooms = {'pipelines', 'components', 'registry', 'features'} & loaded\n"
        "print([plugin.name for plugin in plugins], errors, sorted(rooms))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip().splitlines()[-1].startswith("['rankmill'] {} []"), done.stdout
