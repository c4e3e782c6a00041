# What can I do here? `make help` lists it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIPELINE ?= movielens_daily
RUN_ARGS ?=
COMPARISONS ?=
SEEDS ?=

.DEFAULT_GOAL := help
.PHONY: help install data run ui results test lint format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Python 3.11 is needed, $(PYTHON) is $$($(PYTHON) --version): set PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25'
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip check
	@touch $@

install: $(VENV)/.installed  ## make .venv with the pinned dependencies

data: install  ## fetch MovieLens-100K once, sha256-checked
	@$(BIN)/python -m components.ingest_movielens.download

run: data  ## run a pipeline through Airflow in this process (PIPELINE=movielens_daily)
	@$(BIN)/rankmill run $(PIPELINE) $(RUN_ARGS)

ui: install  ## start the Airflow and MLflow pages on loopback; Ctrl-C stops both
	@exec $(BIN)/rankmill ui

results: data  ## run comparisons and write docs/RESULTS.md (COMPARISONS=names, all when empty; SEEDS=3)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,results]'
	@$(BIN)/rankmill compare $(COMPARISONS) $(if $(SEEDS),--seeds $(SEEDS))

test: data  ## run the tests, two at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: install  ## format, style, types, layers, pipelines, schema, stubs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/rankmill validate
	$(BIN)/rankmill compare --check
	$(BIN)/rankmill schema --check
	$(BIN)/rankmill stubs --check

format: install  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove .venv and the embedded engines' home with all artifacts
	rm -rf $(VENV) .rankmill
