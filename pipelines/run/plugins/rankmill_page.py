"""How does Rankmill appear in Airflow? A page in its menu and a tab on every DAG run; nothing but this file is loaded.

Every process of Airflow loads its plugins, and a stub in ``dags/`` must find its own tree's packages. So our code is
imported by the first request for a page, which only an API server gets, and from the tree that this file lies in.
"""

# FastAPI reads annotations of functions inside functions, so they are no strings here.
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from fastapi import FastAPI

TREE = Path(__file__).resolve().parents[3]
PREFIX = "/rankmill"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Of every answer: a page may show what is inside it, and nothing else; it may stand in a frame of Airflow only."""
SHUT = HEADERS | {"Content-Security-Policy": f"sandbox; {HEADERS['Content-Security-Policy']}"}
"""Of a page that a stage made: it has no origin either, so that it could act as nobody, whatever it holds."""


class LazyApp:
    """The app, made by the first request."""

    def __init__(self) -> None:
        self._app: Any = None
        self._lock = Lock()

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer a request as any ASGI app does."""
        from anyio import to_thread

        await (await to_thread.run_sync(self._made))(scope, receive, send)

    def _made(self) -> "FastAPI":
        with self._lock:
            if self._app is None:
                self._app = make_app()
            return self._app


def make_app() -> "FastAPI":
    """Return the app with all its pages, each for users of Airflow only who may read the DAG that it is about.

    Raises:
        ImportError: our packages come from another tree than this file.
        RankmillError: the profile that ``RANKMILL_PROFILE`` names cannot be used.
    """
    if "pipelines" not in sys.modules and str(TREE) not in sys.path:
        sys.path.insert(0, str(TREE))
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
    from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
    from airflow.models.connection import Connection
    from airflow.models.dag import DagModel
    from fastapi import Depends, FastAPI, Request, Response
    from fastapi.responses import HTMLResponse

    from components.pages.links import Links
    from components.platform.errors import RankmillError
    from components.platform.settings import Settings, quiet_engines
    from pipelines.language.hiding import hidden, without_passwords
    from pipelines.language.profile import use_profile
    from pipelines.record.runs import recorded_pipelines, recorded_runs, run_of
    from pipelines.run.doctor import rooms_problem
    from pipelines.show.pages.absent import absent_page
    from pipelines.show.pages.model_page import model_page
    from pipelines.show.pages.overview import RUNS, overview
    from pipelines.show.pages.pipeline_page import pipeline_page
    from pipelines.show.pages.report import shown_file, standing_report
    from pipelines.show.pages.standing import standings

    if problem := rooms_problem(TREE):
        raise ImportError(problem)
    quiet_engines()
    use_profile(None, fetch=lambda name: str(Connection.get_connection_from_secrets(name).get_uri()))
    app = FastAPI(title="Rankmill", docs_url=None, redoc_url=None, openapi_url=None)
    readers = Depends(requires_access_dag("GET"))
    readers_of_runs = Depends(requires_access_dag("GET", DagAccessEntity.RUN))

    def allowed(user: GetUserDep) -> Callable[[str], bool]:
        def may_read(pipeline: str) -> bool:
            details = DagDetails(id=pipeline, team_name=DagModel.get_team_name(pipeline))
            entity = DagAccessEntity.RUN
            return bool(
                pipeline
                and get_auth_manager().is_authorized_dag(method="GET", access_entity=entity, details=details, user=user)
            )

        return may_read

    def links_of(request: Request) -> Links:
        return Links(str(request.scope.get("root_path", "")).rstrip("/"))

    def found(page: str) -> Response:
        return HTMLResponse(page, headers=HEADERS)

    def absent(title: str, said: str) -> Response:
        return HTMLResponse(absent_page(title, said), status_code=404, headers=HEADERS)

    @app.exception_handler(RankmillError)
    def told(request: Request, error: Exception) -> Response:
        said = hidden(without_passwords(str(error)))
        return HTMLResponse(absent_page("This cannot be shown", said), status_code=503, headers=HEADERS)

    @app.get("/", dependencies=[readers])
    def first(request: Request, may_read: Annotated[Callable[[str], bool], Depends(allowed)]) -> Response:
        return found(overview(Settings.from_environment(), links_of(request), may_read))

    @app.get("/models/{model}", dependencies=[readers])
    def one_model(
        request: Request, model: str, may_read: Annotated[Callable[[str], bool], Depends(allowed)]
    ) -> Response:
        known = {one.name: one for one in standings(Settings.from_environment(), may_read)}
        if model not in known:
            return absent("No such model", "No model of this name is registered that you may see.")
        return found(model_page(known[model], links_of(request)))

    @app.get("/dags/{dag_id}", dependencies=[readers_of_runs])
    def one_pipeline(request: Request, dag_id: str) -> Response:
        settings = Settings.from_environment()
        runs = recorded_runs(settings, dag_id, RUNS) if dag_id in recorded_pipelines(settings) else ()
        return found(pipeline_page(dag_id, runs, links_of(request)))

    @app.get("/dags/{dag_id}/runs/{run_id}", dependencies=[readers_of_runs])
    def one_run(dag_id: str, run_id: str) -> Response:
        settings = Settings.from_environment()
        run = run_of(settings, dag_id, run_id)
        if run is None:
            return absent(
                "No report", f"No stage of this run has left a record in {settings.runs}: it has not begun, its record "
                "was deleted, it is no pipeline of Rankmill, or this server does not share RANKMILL_RUNS with the "
                "workers.",
            )  # fmt: skip
        return found(standing_report(run, settings))

    @app.get("/dags/{dag_id}/runs/{run_id}/stages/{stage}/{output}", dependencies=[readers_of_runs])
    def one_artifact(dag_id: str, run_id: str, stage: str, output: str) -> Response:
        settings = Settings.from_environment()
        run = run_of(settings, dag_id, run_id)
        shown = shown_file(run, stage, output, settings) if run else None
        if shown is None:
            return absent("Nothing to show", "This run has no such output, or one that no page or picture belongs to.")
        return Response(shown.content, media_type=shown.media_type, headers=SHUT)

    return app


def _below(base_url: str) -> str:
    """Return the path in front of every address of the app, where Airflow itself may lie below a path."""
    return urlsplit(base_url).path.rstrip("/") + PREFIX


class RankmillPlugin(AirflowPlugin):
    """A page in the menu, a tab on each DAG and on each of its runs."""

    name = "rankmill"
    fastapi_apps = [{"app": LazyApp(), "url_prefix": PREFIX, "name": "Rankmill"}]  # noqa: RUF012  # Airflow's own shape
    external_views = [  # noqa: RUF012
        {
            "name": "Rankmill",
            "href": f"{_below(conf.get('api', 'base_url', fallback=''))}/",
            "destination": "nav",
            "nav_top_level": True,
            "url_route": "rankmill",
        },
        {
            "name": "Rankmill report",
            "href": _below(conf.get("api", "base_url", fallback="")) + "/dags/{DAG_ID}/runs/{RUN_ID}",
            "destination": "dag_run",
            "url_route": "rankmill_report",
        },
        {
            "name": "Rankmill cost",
            "href": _below(conf.get("api", "base_url", fallback="")) + "/dags/{DAG_ID}",
            "destination": "dag",
            "url_route": "rankmill_cost",
        },
    ]
