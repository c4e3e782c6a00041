"""What may the YAML file of a service say? Which model it follows, where it listens, and what it takes."""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from features.declaration import Frozen, Name
from features.ground.durations import Duration, Latency

if TYPE_CHECKING:
    from registry.memory.draws import Draw

MODEL = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
"""Names of models that can be served: they stand in an address and in the name of a folder."""
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder in which processes keep their counts; Prometheus' client reads it when it is
imported."""
_SIZE = re.compile(r"^(?P<count>[1-9][0-9]{0,8})(?P<unit>KiB|MiB)$")
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20}
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]", "::1")
"""Names by which this machine calls itself."""


def _size(value: Any) -> Any:
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        return int(match["count"]) * _UNITS[match["unit"]]
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("must be a size such as 512KiB or 4MiB")


def _host(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:_-]{1,253}", value):
        raise ValueError("must be an address or the name of a host, without a port")
    return value


Size = Annotated[
    int,
    BeforeValidator(
        _size, json_schema_input_type=Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}(KiB|MiB)$")]
    ),
    Field(ge=1 << 10, le=1 << 30),
]
"""`512KiB` or `4MiB`, in bytes."""
Host = Annotated[str, AfterValidator(_host)]
Model = Annotated[str, StringConstraints(pattern=MODEL)]
Secret = Annotated[str, StringConstraints(pattern=r"^\$\{(env|connection):[A-Za-z_][A-Za-z0-9_.-]*\}$")]
"""`${env:NAME}` or `${connection:ID}`: no file holds a secret."""
Engine = Literal["uvicorn", "ray"]
"""What runs the processes of a service: uvicorn on this machine, or Ray Serve on a cluster."""
OrRefuse = Literal["answer", "refuse"]


class Follow(Frozen):
    """Which version answers."""

    alias: Name = "champion"
    """Alias in the registry: wherever it moves, the service follows without a restart."""
    every: Duration = timedelta(seconds=5)
    """How often the registry is asked where it points."""


class Tls(Frozen):
    """Certificate of the service's own address; leave it out behind a proxy that has one."""

    cert: str
    """File with the certificate chain, PEM."""
    key: str
    """File with its private key, PEM."""


class Listen(Frozen):
    """Where the service listens, and to whom."""

    host: Host = "127.0.0.1"
    """Address to listen on; any but loopback needs a `token`."""
    port: int = Field(8500, ge=1, le=65535)
    """Port to listen on."""
    workers: int = Field(1, ge=1, le=256)
    """Processes that answer, each with a model of its own in memory; two while a new one is opened."""
    hosts: tuple[Host, ...] = ()
    """Names that callers may use for this service (their `Host` header), besides its address; a page of the web that
    leads to this machine under a name of its own is refused."""
    token: Secret | None = None
    """What callers must send as `Authorization: Bearer …`, by reference."""
    tls: Tls | None = None
    """Certificate to listen with."""

    @property
    def loopback(self) -> bool:
        """Whether only this machine can call."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def address(self) -> str:
        """Where it can be called, as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    @property
    def known_hosts(self) -> tuple[str, ...]:
        """Names that callers may use."""
        unnamed = ("0.0.0.0", "::")  # noqa: S104  # compared, not listened on
        return tuple(dict.fromkeys((*LOOPBACK_NAMES, *(() if self.host in unnamed else (self.host,)), *self.hosts)))

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if not self.loopback and self.token is None:
            raise ValueError(f"{self.host} can be called from elsewhere: name a token, such as ${{env:SERVING_TOKEN}}")
        if self.host in ("0.0.0.0", "::") and not self.hosts:  # noqa: S104  # compared, not listened on
            raise ValueError(f"{self.host} is every address of the machine: name in hosts what callers call it")
        return self


class FeatureOptions(Frozen):
    """How features are fetched for a question."""

    store: Literal["online", "none"] = "online"
    """`online` fetches what a question leaves out from the online store, as the model's `features.json` says; with
    `none` every question brings all columns."""
    cache_items: int = Field(200_000, ge=0, le=50_000_000)
    """Items whose features are kept between questions, in each process; those of users are always fetched."""
    cache_for: Duration = timedelta(seconds=60)
    """How long they are kept."""
    timeout: Latency = timedelta(milliseconds=50)
    """How long the store may take for one question; what is not there by then is missing."""


class Limits(Frozen):
    """What one process takes before it says no."""

    body: Size = 4 << 20
    """Largest question."""
    candidates: int = Field(5000, ge=1, le=100_000)
    """Most candidates of one question."""
    in_flight: int = Field(2, ge=1, le=256)
    """Questions that are computed at the same time."""
    queue: int = Field(16, ge=0, le=10_000)
    """Questions that wait; more are refused at once, with `Retry-After`."""
    timeout: Latency = timedelta(milliseconds=300)
    """Time that a question has from its first byte; one whose time is over is not computed."""


class Fallback(Frozen):
    """What happens where something is missing."""

    features: OrRefuse = "answer"
    """The online store does not answer in time: `answer` without, or with older values, or `refuse`."""
    missing_user: OrRefuse = "answer"
    """Nothing is known of the user: `answer` as for a new one, or `refuse`."""


class RetrieveOptions(Frozen):
    """Candidates that the service finds itself, for rankers whose score is an inner product (`gnolr`)."""

    catalogue: str | None = None
    """Parquet or CSV file with the ids of all items, in the model's item column, as a path or URI; left out, the items
    that training held."""
    most: int = Field(1000, ge=1, le=100_000)
    """Most candidates that one question may want."""
    every: Duration = timedelta(hours=1)
    """How often the items' vectors are made anew, besides after a promotion or a materialisation."""


class MemoryOptions(Frozen):
    """Whether answers are corrected by the version's error memory."""

    use: bool = True
    """A memory that is switched off by its last refresh, gone or damaged is left out either way."""
    live: bool = False
    """Whether it goes on learning between refreshes from the service's own `log`, once the time for feedback on an
    answer is over. A `share` of the log below 1 will do: means are learned, and a sample of questions has the same."""
    after: Duration = timedelta(minutes=10)
    """How long after an answer feedback counts: as long as in the pipeline that refreshes the memory."""
    refresh: Duration = timedelta(seconds=5)
    """How often each process looks for answers whose time is over."""


class Explore(Frozen):
    """Items that little is known of are ranked higher, by what `refresh_bandit` counted.

    It changes no probability, it is an output of its own (`exploration`), and what it moved is counted.
    """

    use: bool = True
    """False answers as without it; a bandit that is gone, damaged or of another version is left out either way."""
    by: Literal["bonus", "draw"] = "bonus"
    """`bonus` adds what is not known to the score, the same for every question; `draw` takes it for a deviation and
    draws (Thompson sampling), so that the first place has a chance that the answer and the log name."""
    draws: int = Field(1, ge=1, le=100)
    """Draws of a question, read place by place; with as many as places are shown, each of those has a draw of its own.
    For `by: draw`."""
    seed: int = Field(0, ge=0)
    """Seed of the draws: a question with the same id gets the same ones. For `by: draw`."""

    @property
    def draw(self) -> Draw | None:
        """How is drawn, None where the bonus is added."""
        from registry.memory.draws import Draw

        return Draw(seed=self.seed, count=self.draws) if self.by == "draw" else None

    @model_validator(mode="after")
    def _reads_all(self) -> Self:
        if self.by == "bonus" and (unread := [name for name in ("draws", "seed") if name in self.model_fields_set]):
            raise ValueError(f"{unread[0]} is read by explore with by: draw: set it, or leave {unread[0]} out")
        return self


class LogOptions(Frozen):
    """What is kept of questions and answers, under `served/` of the artifact store; with it feedback is taken."""

    share: float = Field(1.0, gt=0, le=1)
    """Share of the questions that are kept, by a hash of their id."""
    hidden: bool = True
    """Keep the ranker's representation of each row, by which an error memory finds its keys."""
    segment: Duration = timedelta(seconds=60)
    """How often a file is written: the most that a crash loses."""
    keep: Duration = timedelta(days=30)
    """How long files are kept, by whole days; older ones are deleted."""
    drop: tuple[Name, ...] = ()
    """Raw columns that are not kept."""
    hash: tuple[Name, ...] = ()
    """Raw columns of which only a hash with `hash_key` is kept, equal for equal values: enough to count people, too
    little to find one. What a model reads by value cannot be learned from them."""
    hash_key: Secret | None = None
    """The secret of the hash, by reference; another one starts a new counting."""

    @model_validator(mode="after")
    def _keyed(self) -> Self:
        if self.hash and self.hash_key is None:
            raise ValueError("hash without a secret hides nothing, for ids can be tried: name hash_key")
        if both := sorted({*self.hash} & {*self.drop}):
            raise ValueError(f"{both[0]!r} is in hash and in drop: name it once")
        return self


class Shadow(Frozen):
    """A second version that is asked too, once the answer is sent; only the log sees what it says."""

    alias: Name = "challenger"
    """Alias in the registry that points at it; while it points nowhere, at what answers, or at what a person took back,
    nothing is asked."""
    share: float = Field(ge=0, le=1)
    """Share of the questions, by a hash of their id; at most the share that the log keeps, by the same hash."""


class Stop(Frozen):
    """What a canary may do in 60 seconds before nobody is given to it any more, until the service starts again."""

    errors: float = Field(0.01, ge=0, le=1)
    """Share of its questions that it may fail to answer; mistakes of callers are none."""
    p99: Latency = timedelta(milliseconds=250)
    """Time that 99 of 100 of its answers may take."""


class Canary(Frozen):
    """A second version that answers a share of the users."""

    alias: Name = "challenger"
    """Alias in the registry that points at it; while it points nowhere, at what answers, or at what a person took back,
    everybody gets the champion."""
    share: float = Field(ge=0, le=1)
    """Share of the users, by a hash of their id and the service's name: the same ones in every process, every day."""
    by: Literal["user"] = "user"
    """Who stays with one version: a user."""
    stop: Stop = Stop()
    """When it is given up."""


class ServingConfig(Frozen):
    """A whole file of a service."""

    name: Name
    """Name of the service and of its file."""
    description: str = ""
    """What it is for."""
    model: Model
    """Registered model that answers."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Execution provider; `cuda` fails where CUDA does not load, `auto` takes what loads."""
    follow: Follow = Follow()
    """Which version answers."""
    listen: Listen = Listen()
    """Where the service listens, and to whom."""
    features: FeatureOptions = FeatureOptions()
    """How features are fetched for a question."""
    limits: Limits = Limits()
    """What one process takes before it says no."""
    retrieve: RetrieveOptions | None = None
    """Candidates that the service finds itself; left out, every question names its own."""
    memory: MemoryOptions = MemoryOptions()
    """Whether answers are corrected by the version's error memory."""
    explore: Explore | None = None
    """Whether items that little is known of are ranked higher; left out, none is."""
    log: LogOptions | None = None
    """What is kept of questions and answers; left out, nothing is, and no feedback is taken."""
    fallback: Fallback = Fallback()
    """What happens where something is missing."""
    shadow: Shadow | None = None
    """A second version that is asked too, unseen by callers; needs a `log`."""
    canary: Canary | None = None
    """A second version that answers a share of the users."""

    @property
    def challengers(self) -> tuple[str, ...]:
        """Aliases that are followed beside the one that answers, each once."""
        return tuple(dict.fromkeys(part.alias for part in (self.shadow, self.canary) if part is not None))

    @model_validator(mode="after")
    def _can_learn(self) -> Self:
        if self.memory.live and not self.memory.use:
            raise ValueError("memory.live corrects answers by what was learned, and memory.use is false: leave one out")
        if self.memory.live and (self.log is None or not self.log.hidden):
            raise ValueError("memory.live learns from the log and its representations: give a log with hidden: true")
        if self.memory.live and self.log is not None and self.log.hash:
            raise ValueError("memory.live reads the log by value, which a hash does not give back: leave one out")
        return self
