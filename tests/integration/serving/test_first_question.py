"""Is a service ready for its first question, or does a library still have to prepare itself while somebody waits?"""

from __future__ import annotations

import subprocess
import sys

import pytest

from components.platform.settings import Settings
from tests.served_shop import environment

pytestmark = pytest.mark.engine
READ = """
import sys
from pathlib import Path
from typeguard import _decorators
prepared, own = [], _decorators.instrument
_decorators.instrument = lambda function: (prepared.append(function.__qualname__), own(function))[1]
from features.joins.online_read import OnlineReader
reader = OnlineReader.open(Path(sys.argv[1]))
print(len(prepared) > 0)
prepared.clear()
print(reader.read("shopper", [(7,)], ["taste"]) is not None, prepared)
"""


def test_feast_prepares_its_methods_when_the_store_is_opened(shop: Settings) -> None:
    """It rewrites a method when it is first called, some dozen of them in a read: longer than a question may wait."""
    command = [sys.executable, "-W", "ignore", "-c", READ, str(shop.feast)]
    done = subprocess.run(command, env=environment(shop), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["True", "True []"]
