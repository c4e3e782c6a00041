"""Benchmarks: `python -m tests.benchmarks` measures, `docs/BENCHMARKS.md` shows."""
