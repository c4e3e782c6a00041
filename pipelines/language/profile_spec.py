"""What may a profile say? Where the engines live, and what a run has there: the strict shape of the file."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from components.platform import settings
from features.declaration import Name
from features.ground.yaml_text import KeyPath
from pipelines.language.spec import SpecModel
from registry.champion.protection import CHAMPION_VARIABLE, GROUPS_VARIABLE, Groups, Movers

REFERENCE = re.compile(r"\$\{(?P<kind>env|connection):(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)\}")
"""`${env:NAME}` or `${connection:ID}`: the whole value is fetched when a run starts."""
Text = Annotated[str, StringConstraints(min_length=1)]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]*$")]


class Mlflow(SpecModel):
    """Where runs are tracked and versions registered."""

    tracking_uri: Text | None = None
    """URI of the MLflow server, `MLFLOW_TRACKING_URI`."""
    artifacts: Text | None = None
    """Where an embedded MLflow keeps files, `RANKMILL_MLFLOW_ARTIFACTS`; for a server, needed only where it gives its
    clients places such as `s3://bucket/…` instead of handing the files out: versions elsewhere are not opened."""


class Feast(SpecModel):
    """Where features are served from."""

    folder: Text | None = None
    """Folder of the embedded registry and online store, `RANKMILL_FEAST`."""
    config: Text | None = None
    """Your own `feature_store.yaml`, `RANKMILL_FEATURE_STORE`."""


class Ray(SpecModel):
    """Where training runs."""

    address: Text | None = None
    """Address of a cluster, `RANKMILL_RAY_ADDRESS`; left out, a local one that ends with its stage."""
    token: Text | None = None
    """Token that the cluster asks for, by reference, `RAY_AUTH_TOKEN`; a local one has its own."""


class Airflow(SpecModel):
    """The embedded Airflow of `rankmill ui`, and where people see any other."""

    home: Text | None = None
    """Its folder, `AIRFLOW_HOME`."""
    database: Text | None = None
    """SQLAlchemy URL of its database, `AIRFLOW__DATABASE__SQL_ALCHEMY_CONN`."""
    page: Text | None = None
    """Address of Rankmill's page in it, `RANKMILL_PAGE`, such as `https://airflow.example.com/plugin/rankmill/rankmill`:
    versions in MLflow then link to the report of their run."""


class Resources(SpecModel):
    """What a stage may ask for."""

    gpus: int = Field(0, ge=0, le=4096)
    """GPUs that a run has; a stage that asks for more is an error before it runs."""
    workers: int | None = Field(None, ge=1, le=512)
    """`workers:` of stages that have the key and do not set it."""
    threads: int | None = Field(None, ge=1, le=1024)
    """Threads of one process of an engine, `OMP_NUM_THREADS`."""


class Keep(SpecModel):
    """What `rankmill gc` leaves, besides what answers, is pinned, or ran last."""

    days: int | None = Field(None, ge=1, le=36_500)
    """What was made or used within so many days, `RANKMILL_KEEP_DAYS`; 30 when left out."""
    versions: int | None = Field(None, ge=1)
    """So many versions of each model, the newest, `RANKMILL_KEEP_VERSIONS`; all when left out."""
    champions: int | None = Field(None, ge=0)
    """Of the former champions that one may roll back to, so many, the nearest, `RANKMILL_KEEP_CHAMPIONS`; all when left
    out. It counts only where `versions` is set."""


class ProtectedAlias(Movers):
    """Who may move an alias; whoever is not named may not."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.pipelines and not self.people:
            raise ValueError("nobody could ever move it: name pipelines or people")
        return self


class Protect(SpecModel):
    """Aliases that not everybody may move."""

    champion: ProtectedAlias | None = None
    """Who may move `champion`; everybody when left out. MLflow's own UI and API do not ask."""


class ProfileSpec(SpecModel):
    """A whole profile file."""

    name: Name
    """Name of the profile and of its file."""
    description: str = ""
    """Which place this is."""
    home: Text | None = None
    """Folder of the embedded engines, scratch and caches, `RANKMILL_HOME`."""
    data: Text | None = None
    """Folder of raw data sets, `RANKMILL_DATA`."""
    runs: Text | None = None
    """Folder of run records, `RANKMILL_RUNS`."""
    artifacts: Text | None = None
    """fsspec URI of the artifact store, `RANKMILL_ARTIFACTS`."""
    ledger: Text | None = None
    """fsspec URI of the promotion ledger, `RANKMILL_LEDGER`."""
    mlflow: Mlflow = Mlflow()
    """Where runs are tracked and versions registered."""
    feast: Feast = Feast()
    """Where features are served from."""
    ray: Ray = Ray()
    """Where training runs."""
    airflow: Airflow = Airflow()
    """The embedded Airflow of `rankmill ui`, and where people see any other."""
    device: Literal["auto", "cpu", "cuda"] | None = None
    """`device:` of stages that have the key and do not set it."""
    provider: Literal["auto", "cpu", "cuda"] | None = None
    """`provider:` of stages that have the key and do not set it."""
    resources: Resources = Resources()
    """What a stage may ask for."""
    keep: Keep = Keep()
    """What `rankmill gc` leaves."""
    groups: Groups = Field(default_factory=dict)
    """People by the name of their group, each as Airflow and the operating system know them."""
    protect: Protect = Protect()
    """Aliases that not everybody may move."""
    environment: dict[Variable, Text] = Field(default_factory=dict)
    """More variables for the engines, such as the keys of an object store."""


VARIABLES: dict[KeyPath, str] = {
    **{(name,): settings.VARIABLES[name] for name in ("home", "data", "runs", "artifacts", "ledger")},
    ("mlflow", "tracking_uri"): settings.VARIABLES["tracking_uri"],
    ("mlflow", "artifacts"): settings.VARIABLES["mlflow_artifacts"],
    ("feast", "folder"): settings.VARIABLES["feast"],
    ("feast", "config"): "RANKMILL_FEATURE_STORE",
    ("ray", "address"): settings.VARIABLES["ray_address"],
    ("ray", "token"): "RAY_AUTH_TOKEN",
    ("airflow", "home"): settings.VARIABLES["airflow_home"],
    ("airflow", "database"): "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    ("airflow", "page"): settings.VARIABLES["page"],
    ("resources", "threads"): "OMP_NUM_THREADS",
    ("keep", "days"): "RANKMILL_KEEP_DAYS",
    ("keep", "versions"): "RANKMILL_KEEP_VERSIONS",
    ("keep", "champions"): "RANKMILL_KEEP_CHAMPIONS",
    ("groups",): GROUPS_VARIABLE,
    ("protect", "champion"): CHAMPION_VARIABLE,
}
"""Which environment variable each key of a profile sets."""
SECRETS: tuple[KeyPath, ...] = (("ray", "token"),)
"""Keys that hold a secret, which no file may hold."""
PATHS: tuple[KeyPath, ...] = (
    ("home",), ("data",), ("runs",), ("feast", "folder"), ("feast", "config"), ("airflow", "home"),
)  # fmt: skip
"""Keys that hold a folder or file of this machine."""
PLACES: tuple[KeyPath, ...] = (*PATHS, ("artifacts",), ("ledger",), ("mlflow", "artifacts"))
"""Keys whose values stand in records and messages: places, which may hold no secret."""
