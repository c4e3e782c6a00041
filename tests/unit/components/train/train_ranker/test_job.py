"""Do stage and training process understand each other, also when a file is half written or an error crosses?"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.platform.errors import (
    BadInputError,
    ContractViolationError,
    RankmillError,
    RetryableError,
    StorageError,
)
from components.train.train_ranker.config import EpochReport
from components.train.train_ranker.curves import draw_curves
from components.train.train_ranker.feed import Indices, share, shuffled, windows
from components.train.train_ranker.job import (
    PROGRESS,
    Failure,
    Progress,
    RayJob,
    append_progress,
    read_progress,
    run_job,
)
from components.train.train_ranker.ray_launch import knock, refuse_oversized


def report(epoch: int, best: bool = True, **metrics: float) -> EpochReport:
    return EpochReport(epoch=epoch, train_loss=1.0 / epoch, metrics=metrics, best=best)


def test_a_line_counts_once_it_is_complete(tmp_path: Path) -> None:
    assert read_progress(tmp_path) == []
    lines = [Progress(report=report(epoch), seconds=1.0, train_seconds=0.5) for epoch in (1, 2)]
    for line in lines:
        append_progress(tmp_path, line)
    text = (tmp_path / PROGRESS).read_text()
    (tmp_path / PROGRESS).write_text(text + '{"report": {"epo')
    assert read_progress(tmp_path) == lines
    assert read_progress(tmp_path, skip=1) == lines[1:]


@pytest.mark.parametrize("error", [BadInputError("a"), RetryableError("b"), StorageError("c"), RankmillError("d")])
def test_an_error_crosses_with_its_class(error: RankmillError, tmp_path: Path) -> None:
    Failure.write(tmp_path, error)
    found = Failure.read(tmp_path)
    assert type(found) is type(error)
    assert str(found) == str(error)


def test_an_unlisted_error_crosses_as_its_nearest_base_and_the_first_one_counts(tmp_path: Path) -> None:
    assert Failure.read(tmp_path) is None
    Failure.write(tmp_path, ContractViolationError("first"))
    Failure.write(tmp_path, RetryableError("second"))
    found = Failure.read(tmp_path)
    assert type(found) is BadInputError
    assert str(found) == "first"


def test_a_job_ends_with_the_status_of_its_failure_also_of_one_that_a_worker_left(tmp_path: Path) -> None:
    def status(name: str, work: Callable[[RayJob], None]) -> int:
        (tmp_path / name).mkdir()
        job = RayJob(name=name, dataset=tmp_path, directory=tmp_path / name)
        return run_job(RayJob, job.write(), work)

    def fails(job: RayJob) -> None:
        raise RetryableError("lost")

    assert status("well", lambda job: None) == 0
    assert status("raised", fails) == RetryableError.exit_code
    assert str(Failure.read(tmp_path / "raised")) == "lost"
    assert status("left", lambda job: Failure.write(job.directory, BadInputError("bad"))) == BadInputError.exit_code


def test_more_workers_than_cpus_are_refused_with_numbers() -> None:
    refuse_oversized(2, 2.0, "CPUs", "this machine")
    with pytest.raises(BadInputError, match=r"workers: 3 need 3 CPUs, this machine has 2: lower workers to at most 2"):
        refuse_oversized(3, 2.0, "CPUs", "this machine")


def test_a_cluster_that_does_not_answer_is_noticed_at_once() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ConnectionRefusedError):
            knock(address)
        listener.listen()
        knock(address)
        knock(f"ray://{address}")
    with pytest.raises(ValueError, match=r"'nonsense' is not host:port"):
        knock("nonsense")


@given(rows=st.integers(0, 200), world=st.integers(1, 9))
@settings(max_examples=80, deadline=None)
def test_shares_are_disjoint_complete_and_even(rows: int, world: int) -> None:
    shares = [list(range(rows))[share(rows, rank, world)] for rank in range(world)]
    assert [row for mine in shares for row in mine] == list(range(rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_an_epochs_order_is_a_permutation_of_its_own() -> None:
    def epoch_order(rows: int, seed: int, epoch: int) -> Indices:
        [window] = windows(rows, 64, seed, epoch, in_memory=rows)
        return shuffled(window, seed, epoch)

    orders = [epoch_order(500, seed, epoch) for seed in (0, 1) for epoch in (1, 2)]
    assert all((np.sort(order) == np.arange(500)).all() for order in orders)
    assert len({order.tobytes() for order in orders}) == 4
    assert (epoch_order(500, 0, 1) == orders[0]).all()


def test_curves_are_drawn_also_where_nothing_is_defined(tmp_path: Path) -> None:
    with_gap = [
        report(1, **{"validation/like/auc": 0.6, "validation/like/log_loss": 0.6}),
        report(2, best=False, **{"validation/like/log_loss": 0.7}),
    ]
    for name, history in (("gap", with_gap), ("empty", [report(1)])):
        draw_curves(history, tmp_path / f"{name}.png")
        draw_curves(history, tmp_path / "again.png")
        drawn = (tmp_path / f"{name}.png").read_bytes()
        assert drawn.startswith(b"\x89PNG")
        assert drawn == (tmp_path / "again.png").read_bytes(), "the same run makes the same artifact"


def test_a_worker_that_stopped_answering_is_lost_and_an_error_of_its_code_is_not() -> None:
    from ray.exceptions import ActorDiedError, RayTaskError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError

    from components.train.train_ranker.ray_launch import _is_loss_of_worker

    died = ActorDiedError()
    lost = (died, WorkerHealthCheckFailedError("a check failed", died), WorkerHealthCheckTimeoutError("silent"))
    assert all(_is_loss_of_worker(error) for error in lost)
    own = (RayTaskError("f", "trace", ValueError("x")), ValueError("x"))
    assert not any(_is_loss_of_worker(error) for error in own)
