"""Measurements that want a GPU: `tests/gpu/run.sh`."""
