"""Where does each page lie? Addresses below the one at which Airflow shows Rankmill."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Links:
    """Addresses of pages below one."""

    root: str
    """Path or URL in front, without a slash at its end."""

    @property
    def overview(self) -> str:
        """The first page."""
        return f"{self.root}/"

    def pipeline(self, name: str) -> str:
        """The runs of a pipeline and what they cost."""
        return f"{self.root}/dags/{quote(name, safe='')}"

    def run(self, pipeline: str, run_id: str) -> str:
        """The page of a run."""
        return f"{self.pipeline(pipeline)}/runs/{quote(run_id, safe='')}"

    def shown(self, pipeline: str, run_id: str, stage: str, output: str) -> str:
        """What a stage of a run shows, as it made it."""
        return f"{self.run(pipeline, run_id)}/stages/{quote(stage, safe='')}/{quote(output, safe='')}"

    def model(self, name: str) -> str:
        """The versions of a model and its history."""
        return f"{self.root}/models/{quote(name, safe='')}"
