"""Does the collector rest during imports, and does a stage that only follows a training go without torch?"""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from features.ground.imports import importing
from tests.stages import ROOT


def test_the_collector_rests_and_wakes_even_when_an_import_fails() -> None:
    with pytest.raises(ImportError), importing():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_process_that_follows_a_training_does_without_torch() -> None:
    """It writes files of the ranker at the end, where importing torch for two names would cost seconds."""
    modules = "components.train.train_ranker.component, components.train.ranker_files"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
