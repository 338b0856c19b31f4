# What people type. `make` alone lists it.

VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
RUNTIME_STAMP := $(VENV)/.runtime-installed
DEV_STAMP := $(VENV)/.dev-installed

# Nothing is compiled when it is installed. Each of hundreds of processes would compile all that it imports, a second or more.
unexport PYTHONDONTWRITEBYTECODE

# What the caller's Python and pip are told of other projects (other modules called `api`, another place to install to) is
# not meant for this environment.
unexport PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX
export PIP_USER := no

.DEFAULT_GOAL := help
.PHONY: help up down status logs clean up-docker build test test-faults test-containers test-opensearch test-compose nightly test-world check-wheels pictures bench bench-whole bench-peers lint lint-workflow format lock shell db-shell

help: ## List these commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(RUNTIME_STAMP) ## Start everything, wait until it is healthy, ingest the sources the first time
	@$(BIN)/headrace up $(ARGS)

up-docker: $(RUNTIME_STAMP) ## The same in containers; HEADRACE_STACK=docker says so to the other commands
	@HEADRACE_STACK=docker $(BIN)/headrace up $(ARGS)

down: $(RUNTIME_STAMP) ## Stop everything; the data stays
	@$(BIN)/headrace down

status: $(RUNTIME_STAMP) ## Ask every process and server how it is
	@$(BIN)/headrace status $(ARGS)

logs: $(RUNTIME_STAMP) ## Follow the logs of all processes (ARGS="normalizer kafka" for some)
	@$(BIN)/headrace logs -f $(ARGS)

clean: $(RUNTIME_STAMP) ## Stop everything and delete this stack's data (asks; ARGS=--yes does not)
	@$(BIN)/headrace clean $(ARGS)

build: $(RUNTIME_STAMP) ## Create the virtual environment and resolve the servers
	@$(BIN)/python -m local_stack.installations

# So many files at a time, each worker on servers of its own (2 GB): much of a test is waiting for a server or a process. A
# third of what Kafka and Elasticsearch cost was Java's second compiler, which pays in servers that run for hours.
WORKERS ?= 3
JAVA_OF_MINUTES := JDK_JAVA_OPTIONS="-XX:TieredStopAtLevel=1"
# From 3.12 on Python itself tells which lines were run, which costs next to nothing.
CORE = $$($(BIN)/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")')

test: $(DEV_STAMP) ## Run the whole test suite on servers of its own (ARGS=tests/unit for a part; .venv/bin/coverage report names the lines left out)
	$(JAVA_OF_MINUTES) COVERAGE_CORE=$(CORE) $(BIN)/pytest $(or $(ARGS),-n $(WORKERS) --no-loadscope-reorder --cov --cov-report= --cov-fail-under=93 --durations=15)

# A test of the long forms may take hours.
UNHURRIED := PYTEST_ADDOPTS="--timeout 14400 -o faulthandler_timeout=15000"

# The gate's form runs several at a time; the long one has the machine to itself, since its figures are published.
FAULTS_short := $(JAVA_OF_MINUTES) $(BIN)/pytest -n $(WORKERS)
FAULTS_long := $(UNHURRIED) $(BIN)/pytest

test-faults: $(DEV_STAMP) ## Kill, stop and starve everything under load (FAULTS=short for the gate's form; ARGS=tests/faults/test_zombie.py for a part)
	FAULTS=$(or $(FAULTS),long) HEADRACE_FIGURES=$(or $(HEADRACE_FIGURES),.figures) \
	  $(FAULTS_$(or $(FAULTS),long)) --durations=15 $(or $(ARGS),tests/faults)

# The gate's form: a record's whole way, and servers stopped, killed or frozen in the middle of it.
CONTAINERS_short := $(patsubst %,tests/integration/test_%.py,api_pool cache_race elasticsearch_sink landing_sink publish_outage redis_sink) \
  tests/e2e/test_first_ingestion.py
CONTAINERS_long := tests/integration tests/contract tests/e2e

test-containers: $(DEV_STAMP) ## Tests on servers from Docker, never skipped where there is none (CONTAINERS=short for the gate's form)
	HEADRACE_TEST_SERVERS=containers $(BIN)/pytest --on-servers --durations=15 $(or $(ARGS),$(CONTAINERS_$(or $(CONTAINERS),long)))

test-opensearch: $(DEV_STAMP) ## What asks the search server, with OpenSearch in the place of Elasticsearch
	$(JAVA_OF_MINUTES) HEADRACE_TEST_SERVERS=opensearch $(BIN)/pytest $(or $(ARGS),$(patsubst %,tests/integration/test_%.py,elasticsearch_sink deep_audit api_search))

# The gate's form: up, the tour's checks, a kill of every role.
COMPOSE_short := -m gate

test-compose: $(DEV_STAMP) ## The stack of docker-compose.yml: up, kills, restarts, scale, down (COMPOSE=short for the gate's form)
	$(BIN)/pytest --durations=15 -x $(COMPOSE_$(COMPOSE)) $(or $(ARGS),tests/compose)

nightly: $(DEV_STAMP) ## All that is too long for the gate, some hours; docs/nightly.md has how it ended last (ARGS="faults compose" for a part)
	$(UNHURRIED) $(BIN)/python -m tests.nightly $(ARGS)

test-world: $(DEV_STAMP) ## Read what other projects' tests and data hold; docs/world.md has how it went last (ARGS="-k feeds" for a part)
	$(BIN)/pytest tests/world $(ARGS)

check-wheels: $(DEV_STAMP) ## Download every locked wheel for each Python and machine, 3 GB in all (ARGS="-k 3.14" for a part)
	$(BIN)/pytest -v tests/wheels $(ARGS)

pictures: $(DEV_STAMP) ## The dashboard's pictures in docs/dashboard, of a pipeline of its own (needs Chromium)
	HEADRACE_PICTURES=docs/dashboard $(BIN)/pytest -q tests/e2e/test_dashboard.py -k picture

# ROUNDS=1 SIZE=20000 is a short form, whose figures nobody should keep: RESULTS=/tmp/short.json.
BENCH = $(BIN)/python -m benchmarks $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SIZE),--size $(SIZE)) $(if $(RESULTS),--results $(RESULTS))

bench: $(DEV_STAMP) ## All benchmarks on stacks of their own, their tables and pictures: 20 minutes of a quiet machine (PARTS=stages, ROUNDS=1, SIZE=20000; needs wrk)
	$(BENCH) $(PARTS)

bench-whole: $(DEV_STAMP) ## Of them, what runs on a whole stack: rates, latency, reads, commands
	$(BENCH) whole

bench-peers: $(DEV_STAMP) ## Other projects' tools at the same work; installs them into the user's cache the first time, 2 GB
	$(BENCH) peers peers_whole

lint: $(DEV_STAMP) ## Check style, types, import directions, the Dockerfile and the workflow; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/zizmor --quiet --offline --no-progress .github

lint-workflow: ## Check the GitHub workflow with actionlint (needs Go)
	go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

format: $(DEV_STAMP) ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# One resolution in three files, each package in one of them: what every process needs (the image), what this machine
# needs besides to run the stack, and what developing needs besides. A file begins with `-r` of the one before it.
LOCK := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet
define lock
	$(LOCK) $(ARGS) $(3) -c $(2) $$(sed -n 's/^\([a-z0-9._-]*\)==.*/--no-emit-package \1/p' requirements-image.lock $(2)) -o $(1) >/dev/null
	@echo '-r $(2)' | cat - $(1) >$(1).new && mv $(1).new $(1)
endef
lock: ## Rewrite the lock files from pyproject.toml (needs uv; ARGS=--upgrade for the newest of everything)
	@command -v uv >/dev/null 2>&1 || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	$(LOCK) $(ARGS) -o requirements-image.lock >/dev/null
	$(call lock,requirements.lock,requirements-image.lock,--extra local)
	$(call lock,requirements-dev.lock,requirements.lock,--extra local --extra msk --extra dev)

shell: $(RUNTIME_STAMP) ## A shell with the virtual environment and the running stack's addresses
	@addresses=$$($(BIN)/headrace env) && export $$addresses && VIRTUAL_ENV="$$PWD/$(VENV)" PATH="$$PWD/$(BIN):$$PATH" "$${SHELL:-/bin/sh}"

db-shell: $(RUNTIME_STAMP) ## psql in the running stack's database
	@$(BIN)/python -m local_stack.db_shell $(ARGS)

# The environment: made by uv where it is on PATH, by venv and pip elsewhere, from the same lock files.
$(BIN)/python:
	@if command -v uv >/dev/null 2>&1; then uv venv --quiet --python '$(if $(filter file,$(origin PYTHON)),>=3.11,$(PYTHON))' $(VENV); else \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "Headrace needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }; \
	  $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "The virtual environment could not be made (Debian/Ubuntu: apt install python3-venv)." >&2; exit 1; }; \
	fi

# A lock says all there is to install. Nothing is resolved, so what was published since changes nothing. Modules are
# compiled when they are first imported, which most never are: two fifths of the time of installing.
define install
	@echo "Installing $(1) into $(VENV) ..."
	@if command -v uv >/dev/null 2>&1; then \
	  export VIRTUAL_ENV="$$PWD/$(VENV)" && \
	  uv pip install --quiet --no-deps --require-hashes -r $(1) && \
	  uv pip install --quiet --no-deps --no-build-isolation -e . && \
	  uv pip check --quiet; \
	else \
	  $(PIP) install --quiet --no-compile --no-deps --require-hashes -r $(1) && \
	  $(PIP) install --quiet --no-deps --no-build-isolation -e . && \
	  $(PIP) check; \
	fi
endef

$(RUNTIME_STAMP): requirements.lock requirements-image.lock pyproject.toml | $(BIN)/python
	$(call install,requirements.lock)
	@touch $@

$(DEV_STAMP): requirements-dev.lock requirements.lock requirements-image.lock pyproject.toml | $(BIN)/python
	$(call install,requirements-dev.lock)
	@touch $(RUNTIME_STAMP) $@
