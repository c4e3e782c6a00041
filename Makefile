# What can I do here? `make help` lists it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIPELINE ?= movielens_daily
SERVICE ?= movielens
RUN_ARGS ?=
COMPARISONS ?=
SEEDS ?=
BENCHMARKS ?=
# Tests start hundreds of processes: without compiled modules on disk, each would compile the project anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install data run serve ui results bench test test-all test-scale test-editor test-services lint format clean

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
	@$(BIN)/python -m components.ingest.download

run: data  ## run a pipeline through Airflow in this process (PIPELINE=movielens_daily)
	@$(BIN)/rankmill run $(PIPELINE) $(RUN_ARGS)

serve: install  ## answer questions with the champion on loopback (SERVICE=movielens); Ctrl-C stops it
	@exec $(BIN)/rankmill serve $(SERVICE)

ui: install  ## start the Airflow and MLflow pages on loopback; Ctrl-C stops both
	@exec $(BIN)/rankmill ui

results: data  ## run comparisons and write docs/RESULTS.md (COMPARISONS=names, all when empty; SEEDS=3)
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,results]'
	@$(BIN)/rankmill compare $(COMPARISONS) $(if $(SEEDS),--seeds $(SEEDS))

.bench-venv/.installed: tests/benchmarks/peers.txt $(VENV)/.installed
	$(PYTHON) -m venv .bench-venv
	@# The project's own libraries are seen from there, so that both sides run on the same torch; nothing is seen from here.
	@echo "$(CURDIR)/$$(echo $(VENV)/lib/python3.11/site-packages)" > .bench-venv/lib/python3.11/site-packages/project.pth
	.bench-venv/bin/python -m pip install --quiet --no-deps --requirement tests/benchmarks/peers.txt
	@touch $@

.bench-venv-%/.installed: tests/benchmarks/peers_%.txt $(VENV)/.installed
	$(PYTHON) -m venv .bench-venv-$*
	@echo "$(CURDIR)/$$(echo $(VENV)/lib/python3.11/site-packages)" > .bench-venv-$*/lib/python3.11/site-packages/project.pth
	@# pip warns of the project's own pins, which this environment hides from its server alone.
	.bench-venv-$*/bin/python -m pip install --quiet --quiet --requirement $<
	@touch $@

bench: data .bench-venv/.installed .bench-venv-bentoml/.installed .bench-venv-mlserver/.installed  ## measure against peers and write docs/BENCHMARKS.md (BENCHMARKS=names, all when empty)
	@$(BIN)/python -m tests.benchmarks $(BENCHMARKS)

test: data  ## run the tests, three at a time (many wait), but for the long ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder -m 'not long and not scale and not editor and not services'

test-all: data  ## run all tests, the long ones too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder -m 'not scale and not editor and not services'

test-scale: install  ## take 4 and 16 million rows through the data stages, each within its memory (half an hour)
	$(BIN)/python -m pytest -m scale tests/scale

test-editor: install  ## check pipelines with a YAML language server, as an editor does (needs npm)
	npm ci --prefix tests/editor --no-audit --no-fund
	$(BIN)/python -m pytest -m editor tests/editor

test-services: data  ## run a pipeline and a service on PostgreSQL, Redis, an S3 store, MLflow and a Ray head, and break them
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,prod,services,serve-ray]'
	@$(BIN)/python -m tests.services.packages
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m services tests/services

lint: install  ## format, style, types, layers, pipelines, schema, stubs, reference
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/rankmill validate
	$(BIN)/rankmill compare --check
	$(BIN)/rankmill schema --check
	$(BIN)/rankmill stubs --check
	$(BIN)/rankmill reference --check

format: install  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove .venv and the embedded engines' home with all artifacts
	rm -rf $(VENV) .rankmill tests/editor/node_modules
