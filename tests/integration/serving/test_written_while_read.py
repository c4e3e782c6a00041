"""Does reading the online store go on while a materialisation writes it, and is every answer of one materialisation?"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from components.platform.settings import Settings
from features.joins.online_read import OnlineReader
from tests.served_shop import (
    ITEMS,
    ROOT,
    USERS,
    WRITTEN,
    environment,
    materialise,
    serving,
    write_features,
)

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
GENERATIONS = 8
WRITER = """
import sys
from pathlib import Path
from components.platform.settings import Settings
from tests.integration.serving.test_written_while_read import write

for generation in range(2, int(sys.argv[2])):
    write(Settings.from_environment(), Path(sys.argv[1]), generation)
"""


def write(settings: Settings, folder: Path, generation: int) -> None:
    """Materialise values that all tell their generation."""
    at = WRITTEN + timedelta(seconds=generation)
    materialise(settings, write_features(folder / str(generation), generation, at), at)


def generation_of_goods(values: tuple[object, ...]) -> int:
    popularity, genres = values
    assert isinstance(popularity, float) and isinstance(genres, list | None)
    assert len(genres or ()) == int(popularity) % 5, "half of it is of another materialisation"
    return int(popularity)


def test_reads_go_on_and_no_answer_mixes_two_materialisations(shop: Settings, tmp_path: Path) -> None:
    reader = OnlineReader.open(shop.feast)
    seen = Counter[int]()
    command = [sys.executable, "-c", WRITER, str(tmp_path), str(GENERATIONS)]
    with serving(shop, tmp_path, features={"cache_items": 0}) as served:
        writer = subprocess.Popen(command, env=environment(shop), cwd=ROOT)
        try:
            asked = 0
            while writer.poll() is None:
                found = reader.read("goods", [(item,) for item in range(1, ITEMS + 1)], ("popularity", "genres"))
                seen.update(generation_of_goods(held.values) for held in found if held is not None)
                assert None not in found, "nothing is gone while it is written"
                for held in reader.read(
                    "shopper", [(user,) for user in range(1, USERS + 1)], ("taste", "recent_likes")
                ):
                    assert held is not None
                    taste, likes = held.values
                    assert len(likes or ()) == int(taste[0]) % 5
                answered = served.ask()
                assert answered.status_code == 200 and answered.json()["parameters"]["degraded"] == []
                asked += 1
                time.sleep(0.02)
        finally:
            writer.kill()
            writer.wait(30)
    assert writer.returncode == 0 and asked > 5 and len(seen) > 2, seen
