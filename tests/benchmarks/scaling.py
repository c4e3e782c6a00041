"""How much faster do two workers train than one, when each has one core?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from tests.benchmarks.contract import Benchmark, Report, Series, at_least, table_of
from tests.benchmarks.lab import ROOT, Lab, as_a_stage
from tests.benchmarks.training_world import BATCH, QUICK_BATCH, write_rows

VOCABULARY, ROUNDS = 100_000, 2
TWO, ONE, THREADS = "2 workers, a thread each", "1 worker, 1 thread", "1 worker, 2 threads"
WAYS = {TWO: (2, 1), ONE: (1, 1), THREADS: (1, 2)}
"""Workers, and threads of each."""


def run(lab: Lab) -> Report:
    """Train the same rows in each way, in turns."""
    vocabulary, steps, warm = (500, 2, 1) if lab.quick else (VOCABULARY, 60, 5)
    batch = QUICK_BATCH if lab.quick else BATCH
    path = lab.work / "rows.npz"
    write_rows(path, vocabulary, steps * batch)
    precisions = ("float32",) if lab.quick else ("bfloat16", "float32")
    rates: dict[str, dict[str, list[float]]] = {way: {precision: [] for precision in precisions} for way in WAYS}
    for number in range(lab.rounds(ROUNDS)):
        for way in list(WAYS)[:: 1 if number % 2 == 0 else -1]:
            for precision, found in rates[way].items():
                lab.say(f"round {number + 1}: {way}, {precision}")
                world, threads = WAYS[way]
                cost = lab.child(
                    workers, path=str(path), vocabulary=vocabulary, warm=warm, world=world, threads=threads,
                    precision=precision, batch=batch, meet=str(lab.work / f"meet{number}{world}{threads}{precision}"),
                )  # fmt: skip
                assert cost is not None
                found.append(cost.value["rate"] / 1000)
    speed = Series(
        title="samples per second of all workers",
        unit="k/s",
        better="higher",
        axis="precision",
        cases=precisions,
        samples=table_of(rates, precisions),
    )
    goal = at_least(speed, TWO, ONE, "float32", 1.6, "float32: two workers at least 1.6 × one")
    return Report(series=(speed,), goals=(goal,))


def workers(
    path: str, vocabulary: int, warm: int, batch: int, world: int, threads: int, precision: str, meet: str
) -> Iterator[None]:
    """Train with so many workers, processes that meet as those of a training stage do."""
    yield
    code = "import sys; from tests.benchmarks.scaling import part; part(*sys.argv[1:])"
    command = [sys.executable, "-c", code, path, meet, *map(str, (vocabulary, warm, batch, world, threads)), precision]
    running = [
        subprocess.Popen([*command, str(rank)], cwd=ROOT, stdout=subprocess.PIPE, text=True) for rank in range(world)
    ]
    said = [process.communicate()[0] for process in running]
    yield
    return {"rate": min(float(text.split()[-1]) for text in said)}  # type: ignore[return-value]  # tests.benchmarks.child reads it


def part(
    path: str, meet: str, vocabulary: str, warm: str, batch: str, world: str, threads: str, precision: str, rank: str
) -> None:
    """Train as one worker, and print how many samples a second all of them trained."""
    as_a_stage(int(threads))
    import torch.distributed as dist

    from components.train.train_ranker.loop import Replica
    from tests.benchmarks.training_ours import new_ranker, read_split, train

    if int(world) > 1:
        dist.init_process_group("gloo", init_method=f"file://{meet}", rank=int(rank), world_size=int(world))
    split = read_split(path)
    ranker, optimiser = new_ranker(split, int(vocabulary))
    rate = train(ranker, optimiser, split, precision, int(warm), Replica(int(rank), int(world)), int(batch))
    sys.stdout.write(f"{rate}\n")
    if int(world) > 1:
        dist.destroy_process_group()


BENCHMARK = Benchmark(
    title="Workers",
    question="How much faster do two workers train than one, when each has one core?",
    run=run,
    notes=(
        f"The ESMM of the benchmark of training speed, {VOCABULARY:,} ids per field, batch 4,096 over all workers. "
        "Workers add up 1.6 MB of gradients of the towers and exchange those of the rows that they touched, through "
        "gloo on one machine. A step in bfloat16 is short, so that costs what the second core brings: on one "
        "machine one worker of more threads is the better use of cores, and more workers are for more machines.",
        "Why two workers in float32 do not reach 1.6 times one: a thread each on half a batch takes 82 ms a step where "
        "one on the whole takes 100; half a batch alone would be 50. The other 32 are waiting for each other and the "
        "exchange, in which both processes copy and add on the same two cores.",
    ),
    order=11,
)
