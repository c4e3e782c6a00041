"""Does the pipeline that `rankmill new` writes lead to a champion, on the tables that it brings?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.long, pytest.mark.timeout(600)]


def test_a_new_pipeline_promotes_its_ranker(tmp_path: Path) -> None:
    programs = Path(sys.executable).parent
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MLFLOW", "RANKMILL"))}
    environ = kept | {"RANKMILL_HOME": str(tmp_path / "home"), "PATH": f"{programs}:{os.environ['PATH']}"}
    script = "set -e; rankmill new pipeline corner_shop; python corner_shop_data.py; rankmill run corner_shop.yaml"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "promoted: version 1" in done.stdout
