#!/usr/bin/env bash
# What does a GPU bring? Speed of training beside the roofline, parity and latency of the CUDA provider, as one JSON file.
# usage: tests/gpu/run.sh [FILE.json]   (PYTHON=.venv/bin/python, whose torch and onnxruntime see CUDA; under 8 minutes)
set -euo pipefail
cd "$(dirname "$0")/../.."
exec timeout 480 "${PYTHON:-.venv/bin/python}" -m tests.gpu.measure --device cuda --out "${1:-gpu.json}"
