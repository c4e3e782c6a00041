"""What do the stage and its training process tell each other? Small JSON files in one directory."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from components.platform.errors import BadInputError, MissingError, RankmillError, RetryableError, StorageError
from components.rankers.lora.config import LoraConfig
from components.train.train_ranker.config import Config, EpochReport
from features.declaration import Frozen
from features.ground.files import write_durably

if TYPE_CHECKING:
    from components.rankers.base import Size

JOB = "job.json"
PROGRESS = "progress.jsonl"
FAILURE = "failure.json"
SIZE = "size.json"
TRAININGS = "training"
"""Folder of the home with one folder per training that runs or did not end well."""
OPTIMISER = "optimiser.safetensors"
_CLASSES = {kind.__name__: kind for kind in (BadInputError, MissingError, RankmillError, RetryableError, StorageError)}


def lock_of(training: Path) -> Path:
    """Return the file that is locked while a training's folder is in use."""
    return training.with_suffix(".lock")


class Adaptation(Frozen):
    """That a trained ranker is adapted to one domain instead of training from nothing on all rows."""

    ranker: Path
    """Local directory of a `Ranker`; every worker must see it."""
    domain: str
    """Value of the domain whose rows are used."""
    method: Literal["lora", "full", "scratch"]
    """`lora` trains an adapter, `full` every weight, `scratch` fresh weights, to compare with."""
    lora: LoraConfig
    """The adapter's shape."""


class RayJob(Frozen):
    """What a process that computes on Ray needs, whatever it computes."""

    module: ClassVar[str]
    """Module that runs it, as ``python -m MODULE JOB.json``."""
    name: str
    """Name of the run on Ray."""
    dataset: Path
    """Local directory of a `TrainingSet`."""
    directory: Path
    """Where the process writes what it made, its progress and its failure; every worker must see it."""
    ray_address: str | None = None
    """A cluster's address, or None to start a local one."""
    ray_temp: Path | None = None
    """Folder of the local cluster's sockets and logs; its path must be short."""

    @property
    def private(self) -> Path:
        """Folder of the local cluster, which only this user may enter.

        Raises:
            RankmillError: the job has none.
        """
        if self.ray_temp is None:
            raise RankmillError(f"job {self.name} has no ray_temp: a cluster on this machine needs a folder of its own")
        return self.ray_temp

    def write(self) -> Path:
        """Write the job into its directory and return the file."""
        path = self.directory / JOB
        write_durably(path, self.model_dump_json(indent=2))
        return path


JobT = TypeVar("JobT", bound=RayJob)


class TrainingJob(RayJob):
    """Everything the training process needs."""

    module: ClassVar[str] = "components.train.train_ranker.ray_launch"
    config: Config
    """The `with:` block."""
    adaptation: Adaptation | None = None
    """What to adapt, or None to train a new ranker on all rows."""
    continues: Path | None = None
    """Local directory of a `Ranker` whose rows and weights training starts from; every worker must see it."""
    carries_optimiser: bool = False
    """Whether its optimiser values go on too."""
    keeps_optimiser: bool = False
    """Whether the best epoch's optimiser values are kept beside its weights."""


class Progress(Frozen):
    """One line of the progress file: an epoch's report, its seconds and how many workers ended it."""

    report: EpochReport
    seconds: float
    train_seconds: float
    workers: int = 1
    warning: str | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """Everything that is a number, by the name that MLflow shows, such as ``validation_like_auc``."""
        values = {name.replace("/", "_"): value for name, value in self.report.metrics.items()}
        return values | {
            "train_loss": self.report.train_loss, "epoch_seconds": self.seconds, "workers": self.workers,
        }  # fmt: skip


class Failure(Frozen):
    """Why the training process ended without a model."""

    kind: str
    message: str

    @classmethod
    def write(cls, directory: Path, error: RankmillError) -> None:
        """Leave `error` for the stage to raise again; the first failure of a run is the one that counts."""
        path = directory / FAILURE
        if not path.exists():
            kind = next((k.__name__ for k in type(error).__mro__ if k.__name__ in _CLASSES), RankmillError.__name__)
            write_durably(path, cls(kind=kind, message=str(error)).model_dump_json())

    @classmethod
    def forget(cls, directory: Path) -> None:
        """Take back a failure that training outlived."""
        (directory / FAILURE).unlink(missing_ok=True)

    @classmethod
    def read(cls, directory: Path) -> RankmillError | None:
        """Return the error that the training process left, or None."""
        path = directory / FAILURE
        if not path.exists():
            return None
        failure = cls.model_validate_json(path.read_text(encoding="utf-8"))
        return _CLASSES.get(failure.kind, RankmillError)(failure.message)


def run_job(kind: type[JobT], path: Path, work: Callable[[JobT], None]) -> int:
    """Do the work of one job and return the exit status; the reason of a failure is left in the job's directory."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    job = kind.model_validate_json(path.read_text(encoding="utf-8"))
    try:
        work(job)
    except RankmillError as error:
        Failure.write(job.directory, error)
    failure = Failure.read(job.directory)
    return failure.exit_code if failure else 0


def append_progress(directory: Path, progress: Progress) -> None:
    """Add one line to the progress file."""
    with (directory / PROGRESS).open("a", encoding="utf-8") as stream:
        stream.write(progress.model_dump_json() + "\n")


def read_progress(directory: Path, skip: int = 0) -> list[Progress]:
    """Return the complete lines of the progress file after the first `skip`."""
    path = directory / PROGRESS
    if not path.exists():
        return []
    complete = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [Progress.model_validate_json(line) for line in complete[skip:]]


def write_size(directory: Path, size: Size) -> None:
    """Leave the ranker's size for the stage."""
    write_durably(directory / SIZE, size.model_dump_json())


def read_size(directory: Path) -> dict[str, int]:
    """Return the ranker's size: counts of learned numbers by kind, as `components.rankers.base.Size` names them."""
    counts: dict[str, int] = json.loads((directory / SIZE).read_text(encoding="utf-8"))
    return counts
