"""What does the service answer at which address? Open Inference Protocol V2 over HTTP: routes, tokens, limits.

The app knows no model: it reads what answers from the follower once per question and hands both to `live.reply`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from registry.serving.live.counters import CONTENT_TYPE, Counters
from registry.serving.live.follow import Follower
from registry.serving.live.lookup import Lookup
from registry.serving.live.retrieve import Catalogue, index_of, item_ids, with_candidates
from registry.serving.live.version import Answered, Live, reply
from registry.serving.log.feedback import FeedbackLog, parse_events
from registry.serving.log.served_log import ServedLog
from registry.serving.log.served_rows import Entry
from registry.serving.server.admission import Admission
from registry.serving.server.metadata import metadata
from registry.serving.trial.canary import CanaryRoute, Routed
from registry.serving.trial.challenger import Challenger
from registry.serving.trial.shadow import Copy, ShadowThread
from registry.serving.wire.config import RetrieveOptions, ServingConfig
from registry.serving.wire.protocol import Question, RefusedError, parse, reply_body

SERVER = "rankmill"
SLOW_BODY = 5.0
"""Seconds that the body of a question may take to come."""
SMALL_BODY = 64 << 10
"""Bytes of a body that are taken whatever else comes in; longer ones share the room of the questions that fit in."""
FIRST = 60.0
"""Seconds that a process waits for its first version and its store before it takes questions: of several processes that
share an address, the one that was started last would answer that it has nothing to answer with."""
DRAIN = 10.0
"""Seconds that questions in flight have to end when the service is stopped."""
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
log = logging.getLogger("rankmill.serving")


class Learner(Protocol):
    """What learns from the log while answers go on; `registry.serving.learning` has the one."""

    def start(self) -> None:
        """Learn in the background."""
        ...

    def stop(self) -> None:
        """Learn no more."""
        ...

    def applied(self, live: Live) -> Live:
        """Return a version with what its error memory has learned since its refresh."""
        ...


@dataclass(frozen=True)
class Service:
    """What one process needs to answer."""

    config: ServingConfig
    follower: Follower
    lookup: Lookup | None
    """The online store; None takes what questions give."""
    counters: Counters
    token: str | None = None
    """What callers must send, resolved."""
    log: ServedLog | None = None
    """What is answered is kept there; None keeps nothing."""
    learner: Learner | None = None
    """Learns from the log between refreshes of the error memory; None leaves the memory as it was refreshed."""
    feedback: FeedbackLog | None = None
    """What people did is kept there; None takes none."""
    shadow: ShadowThread | None = None
    """Asks a second version what was answered."""
    canary: CanaryRoute | None = None
    """Gives a share of the users to a second version."""
    catalogue: Catalogue | None = None
    """Where candidates are found for questions that name none; None finds none."""
    stale: Callable[[Live], bool] = lambda live: False
    """Whether features are older than those that a model was trained on."""
    age: Callable[[Live], float | None] = lambda live: None
    """Seconds since the moment that the features of a model are of; None where nothing tells."""
    version: str = ""
    """Release of the server."""

    @property
    def challengers(self) -> tuple[Challenger, ...]:
        """Versions beside the one that answers, each once."""
        return tuple(dict.fromkeys(part.challenger for part in (self.shadow, self.canary) if part is not None))


def make_app(service: Service) -> Starlette:
    """Return the ASGI app of a service; it follows from its start to its end."""
    routes = [
        Route("/v2", _server, methods=["GET"]),
        Route("/v2/health/live", _alive, methods=["GET"]),
        Route("/v2/health/ready", _ready, methods=["GET"]),
        Route("/metrics", _metrics, methods=["GET"]),
    ]
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [
            Route(path, _metadata, methods=["GET"]),
            Route(f"{path}/ready", _model_ready, methods=["GET"]),
            Route(f"{path}/infer", _infer, methods=["POST"]),
        ]
    routes.append(Route("/v2/models/{model}/feedback", _feedback, methods=["POST"]))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        limits = service.config.limits
        app.state.admission = Admission(limits.in_flight, limits.queue)
        app.state.room = _Room((limits.in_flight + limits.queue) * limits.body)
        app.state.stopping = False
        if service.lookup is not None:
            service.lookup.start()
        service.follower.start()
        beside = [*service.challengers, *(part for part in (service.shadow, service.catalogue) if part is not None)]
        for part in beside:
            part.start()
        if service.learner is not None:
            service.learner.start()
        awaited: tuple[Follower | Lookup | None, ...] = (service.follower, service.lookup)
        for first in awaited:
            if first is not None:
                await asyncio.get_running_loop().run_in_executor(None, first.looked.wait, FIRST)
        yield
        app.state.stopping = True
        await app.state.admission.drained(DRAIN)
        # A shadow gives to the log, which ends after it.
        parts = (service.follower, service.learner, *beside, service.log, service.feedback)
        for stop in (part.stop for part in parts if part is not None):
            await asyncio.get_running_loop().run_in_executor(None, stop)

    middleware = [
        Middleware(TrustedHostMiddleware, allowed_hosts=list(service.config.listen.known_hosts), www_redirect=False),
        Middleware(_Token, token=service.token, open_metrics=service.config.listen.loopback),
    ]
    app = Starlette(
        routes=routes,
        middleware=middleware,
        lifespan=lifespan,
        exception_handlers={404: _no_such, 405: _no_such, RefusedError: _refused, Exception: _broken},
    )
    app.state.service = service
    return app


class _Token:
    """Lets nobody in without the token, but to ask whether the process lives."""

    def __init__(self, app: Any, token: str | None, open_metrics: bool) -> None:
        self.app, self.token = app, token.encode() if token else None
        self.open = {"/v2/health/live"} | ({"/metrics"} if open_metrics else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.token is not None and scope["path"] not in self.open:
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, b"Bearer " + self.token):
                answer = _sentence(401, "send the token of this service: Authorization: Bearer …")
                answer.headers["WWW-Authenticate"] = "Bearer"
                await answer(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _sentence(status: int, sentence: str, retry_after: float | None = None) -> JSONResponse:
    headers = {"Retry-After": f"{retry_after:.0f}"} if retry_after is not None else {}
    if status in (408, 413):  # what is left of the question is not read
        headers["Connection"] = "close"
    return JSONResponse({"error": sentence}, status_code=status, headers=headers)


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, RefusedError) else 500
    return _sentence(status, str(error), getattr(error, "retry_after", None))


async def _no_such(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    said = "there is no such address" if status == 404 else "this address does not take this method"
    return _sentence(status, f"{said}: see GET /v2 and the Open Inference Protocol")


async def _broken(request: Request, error: Exception) -> Response:
    log.error("a question failed", exc_info=error)
    return _sentence(500, "the service failed to answer: see its log")


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _live(request: Request) -> Live:
    """Return what answers, of the model and version in the address.

    Raises:
        RefusedError: 404, another model or version; 503, nothing is open yet.
    """
    service, asked = _service(request), request.path_params
    if asked["model"] != service.config.model:
        raise RefusedError(404, f"no model {asked['model'][:128]!r} is served here: ask {service.config.model!r}")
    live = service.follower.live
    if live is None:
        raise RefusedError(503, f"no version of {service.config.model} is open yet: ask again", retry_after=2)
    if asked.get("version", str(live.pointed.version)) != str(live.pointed.version):
        raise RefusedError(404, f"version {asked['version'][:20]} is not loaded: v{live.pointed.version} answers")
    return live if service.learner is None else service.learner.applied(live)


async def _server(request: Request) -> Response:
    said = {
        "name": SERVER,
        "version": _service(request).version,
        "extensions": ["rankmill_missing", "rankmill_feedback", "rankmill_retrieve", "rankmill_reasons"],
    }
    return JSONResponse(said)


async def _alive(request: Request) -> Response:
    return JSONResponse({"live": True})


async def _ready(request: Request) -> Response:
    service = _service(request)
    opened = service.follower.live is not None and (service.lookup is None or service.lookup.looked.is_set())
    opened = opened and (service.catalogue is None or service.catalogue.tried)
    ready = opened and not request.app.state.stopping
    return JSONResponse({"ready": ready}, status_code=200 if ready else 503)


async def _model_ready(request: Request) -> Response:
    live = _live(request)
    return JSONResponse({"name": live.name, "ready": not request.app.state.stopping})


async def _metadata(request: Request) -> Response:
    return JSONResponse(metadata(_live(request), _service(request)))


async def _metrics(request: Request) -> Response:
    service = _service(request)
    service.counters.waiting.set(request.app.state.admission.inside)
    live = service.follower.live
    if live is not None and service.lookup is not None and (age := service.age(live)) is not None:
        service.counters.age.set(age)
    return Response(service.counters.text(), media_type=CONTENT_TYPE)


async def _infer(request: Request) -> Response:
    started, service = time.monotonic(), _service(request)
    role, code, lacks = service.config.follow.alias, 500, dict[str, bool]()
    try:
        if request.app.state.stopping:
            raise RefusedError(503, "the service is stopping: ask another one", retry_after=1)
        live = _live(request)
        body = await _body(request)
        timeout = service.config.limits.timeout.total_seconds()
        # Who asks for a version by its number gets that one.
        canary = service.canary if "version" not in request.path_params else None
        work = _Work(service, live, body, started, timeout, canary)
        admission: Admission = request.app.state.admission
        answer = await admission.run(work, started + timeout)
        lacks, code, role = work.lacks, 200, work.role
        return Response(answer, media_type="application/json", background=_afterwards(service.shadow, work.copy))
    except RefusedError as error:
        code = error.status
        if code in (413, 503):
            service.counters.rejected.labels("size" if code == 413 else "busy").inc()
        return _sentence(error.status, str(error), error.retry_after)
    finally:
        service.counters.answered(code, role, time.monotonic() - started, lacks)


def _afterwards(shadow: ShadowThread | None, copy: Copy | None) -> BackgroundTask | None:
    """Return what is done once an answer is sent; on the loop, since it does not wait."""

    async def offer(to: ShadowThread, what: Copy) -> None:
        to.offer(what)

    return BackgroundTask(offer, shadow, copy) if shadow is not None and copy is not None else None


async def _feedback(request: Request) -> Response:
    service, counts = _service(request), _service(request).counters.feedback
    try:
        live = _live(request)
        if service.feedback is None:
            raise RefusedError(400, f"service {service.config.name!r} keeps no log, so no feedback: give it a log")
        body = await _body(request)
        events = parse_events(body, live.model.contract.schema_.declaration.feedback, datetime.now(UTC))
        try:
            taken = await asyncio.wrap_future(service.feedback.take(events))
        except Exception as error:
            log.warning("feedback cannot be written: %s", error)
            raise RefusedError(503, "the feedback cannot be written: send it again", retry_after=5) from None
    except RefusedError as error:
        counts.labels("", "refused").inc()
        return _sentence(error.status, str(error), error.retry_after)
    for event in events:
        counts.labels(event.feedback, "taken").inc()
    return JSONResponse({"accepted": taken}, status_code=202)


class _Work:
    """One question, from bytes to bytes, in a thread."""

    def __init__(
        self,
        service: Service,
        live: Live,
        body: bytes,
        started: float,
        timeout: float,
        canary: CanaryRoute | None,
    ) -> None:
        self.service, self.live, self.body = service, live, body
        self.started, self.timeout, self.canary = started, timeout, canary
        self.lacks: dict[str, bool] = {}
        self.role = live.alias
        self.copy: Copy | None = None
        """What the shadow is asked once the answer is sent."""

    def __call__(self) -> bytes:
        service, counters = self.service, self.service.counters
        done = counters.stage_clock()
        question = parse(self.body)
        # Named before it is answered: what is drawn for it is a function of its name.
        question = replace(question, id=question.id or uuid.uuid4().hex)
        if time.monotonic() > self.started + min(self.timeout, question.timeout or self.timeout):
            raise RefusedError(503, "the question's time was over before its turn came", retry_after=1)
        done("parse")
        now = datetime.now(UTC)
        item = self.live.reads.declaration.item
        if question.retrieve is not None:
            question = self._with_candidates(question, item, now)
            done("retrieve")

        def champion() -> Answered:
            return reply(self.live, question, service.lookup, service.config, now, done)

        if self.canary is not None:
            routed = self.canary.route(self.live, question, service.config, now, champion, done)
        else:
            routed = Routed(champion(), self.live, self.live.alias)
        found, live, self.role = routed.found, routed.live, routed.role
        self.lacks = {
            "features": found.rows.late,
            "stale": service.lookup is not None and service.stale(live),
            "registry": service.follower.without_registry,
            "canary": routed.fell_back,
        }
        degraded = [reason for reason, is_so in self.lacks.items() if is_so]
        name = question.id
        outputs = found.reply.outputs
        if question.retrieve is not None:
            outputs = {item: item_ids(question, item), **outputs}
        parameters = {**found.reply.parameters, "degraded": degraded}
        body = reply_body(replace(found.reply, id=name, parameters=parameters, outputs=outputs))
        done("serialise")
        counters.looked_up(found.rows)
        counters.explores(found.answers)
        if service.log is not None:
            service.log.take(
                Entry(
                    name,
                    now,
                    live.pointed,
                    routed.role,
                    found.rows.table,
                    found.answers,
                    tuple(degraded),
                    live.reads.told,
                    routed.propensity,
                    found.rows.shared,
                )
            )
        if service.shadow is not None and live is self.live and service.shadow.wants(name):
            self.copy = Copy(name, now, live, question, found.rows, routed.propensity)
        return body

    def _with_candidates(self, question: Question, item: str, now: datetime) -> Question:
        most = (self.service.config.retrieve or RetrieveOptions()).most
        if question.retrieve is not None and question.retrieve > most:
            raise RefusedError(400, f"retrieve is {question.retrieve}: this service finds at most {most}")
        if item in question.tensors:
            raise RefusedError(400, f"the question names candidates and wants some to be found: leave out {item!r}")
        return with_candidates(index_of(self.service.catalogue), question, self.service.lookup, now)


@dataclass
class _Room:
    """Bytes of bodies that may come in at the same time."""

    left: int


async def _body(request: Request) -> bytes:
    """Return the body of a question, counted while it comes: what a header says of its length is believed if too long.

    Raises:
        RefusedError: 413, it is too long; 408, it comes too slowly; 503, too many come; 400, the caller went away.
    """
    most, room = _service(request).config.limits.body, request.app.state.room
    too_long = RefusedError(413, f"the question is longer than {most:,} bytes: send fewer candidates")
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told[:20]) > most:
        raise too_long
    parts, size, taken = [], 0, 0
    try:
        async with asyncio.timeout(SLOW_BODY):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise too_long
                more = max(size - SMALL_BODY - taken, 0)
                if more > room.left:
                    raise RefusedError(503, "too many long questions come in: ask again", retry_after=1)
                room.left, taken = room.left - more, taken + more
                parts.append(part)
        return b"".join(parts)
    except TimeoutError:
        raise RefusedError(408, f"the question took longer than {SLOW_BODY:.0f} s: send it at once") from None
    except ClientDisconnect:
        raise RefusedError(400, "the caller went away") from None
    finally:
        room.left += taken
