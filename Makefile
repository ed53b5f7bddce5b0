# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RLLIB := .venv-rllib
PROCESSES ?= 2
SIZE ?= small
RLLIB_STAMP := $(RLLIB)/.installed
COMPILED := build/compiled
PACKS := client/watchstep/rules/packs

.PHONY: demo test test-long test-rllib test-packaging test-compiled check map bench wheels format install clean

install: $(STAMP)

# torch first and by itself: asked for by a range, it would bring gigabytes of GPU libraries.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	WATCHSTEP_COMPILE=0 $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[server,sb3,torch]" --group dev
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/watchstep demo

# Files by turns in two processes: some fill a core, and much of the rest waits for services.
test: $(STAMP) $(PACKS)/packs.json
	$(BIN)/python -m pytest -m "not long" --numprocesses $(PROCESSES) --dist loadfile

# Stories of kills and cuts, damage counts, and real trainings of every integration: a quarter of an hour more.
test-long: $(STAMP) $(PACKS)/packs.json
	$(BIN)/python -m pytest -m long --numprocesses $(PROCESSES) --dist loadfile

# Ray pins a Gymnasium that Stable-Baselines3's is not, so RLlib has an environment of its own.
test-rllib: $(RLLIB_STAMP)
	$(RLLIB)/bin/python -m pytest -k rllib tests/integrations/test_rllib.py tests/integrations/test_integration_pages.py

# What a wheel has too. Without it each of the processes that tests start reads YAML for half a second.
$(PACKS)/packs.json: $(STAMP) $(wildcard $(PACKS)/*.yaml) client/watchstep/rules/strict_yaml.py
	$(BIN)/python -m watchstep.rules.parsed_packs $@

# The steps of the container image, and the dashboards by Grafana's own schema: both install packages.
test-packaging: $(STAMP)
	WATCHSTEP_SLOW=1 $(BIN)/python -m pytest tests/deploy/test_container_steps.py tests/deploy/test_dashboards.py

$(RLLIB_STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(RLLIB)
	grep -v "^gymnasium==" constraints.txt > $(RLLIB)/constraints.txt
	$(RLLIB)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(RLLIB)/bin/python -m pip install --quiet --constraint $(RLLIB)/constraints.txt torch
	$(RLLIB)/bin/python -m pip install --quiet --constraint $(RLLIB)/constraints.txt --editable ".[rllib]" --group dev
	touch $(RLLIB_STAMP)

# The engine's tests against an installed wheel in which mypyc compiled it.
test-compiled: $(COMPILED)
	PYTHONPATH=$(COMPILED) $(BIN)/python -c "from watchstep.core import engine_kind; assert engine_kind() == 'compiled'"
	PYTHONPATH=$(COMPILED) $(BIN)/python -m pytest tests/core tests/core_diagnosis tests/rules

$(COMPILED): $(STAMP) hatch_build.py pyproject.toml $(shell find client monitor -name "*.py" -o -path "*/packs/*" -type f)
	rm -rf build/wheels $(COMPILED)
	WATCHSTEP_COMPILE=1 $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheels .
	$(BIN)/python -m pip install --quiet --no-deps --target $(COMPILED) build/wheels/*.whl

# For the CPython at hand compiled, and one for all others, which judges more slowly.
wheels: $(STAMP)
	rm -rf dist
	for compiled in 1 0; do WATCHSTEP_COMPILE=$$compiled \
	  $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist . || exit 1; done

# Seconds: style, types, layers, sizes, and documentation without a dead link.
check: $(STAMP)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/shape
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/site

# The pictures of who imports whom in CONTRIBUTING.md. Needs Graphviz (Debian: graphviz).
map: $(STAMP)
	$(BIN)/import-linter drawgraph watchstep | dot -Tsvg > docs/map-trainer.svg
	$(BIN)/import-linter drawgraph watchstep_monitor | dot -Tsvg > docs/map-service.svg

# Writes docs/performance.md. Of an installed wheel: an editable installation has no compiled engine.
bench: $(COMPILED)
	PYTHONPATH=$(COMPILED) $(BIN)/python benchmarks/performance.py
	for name in engine_cost diagnosis_cost ingest_cost; do \
	  echo "== $$name"; PYTHONPATH=$(COMPILED) $(BIN)/python benchmarks/$$name.py || exit 1; done

# Trains and breaks small models (resumable: an hour or two for SIZE=small), and says how they are judged.
bench-judgement: $(STAMP)
	$(BIN)/python -m benchmarks.judgement make --size $(SIZE)
	$(BIN)/python -m benchmarks.judgement score --half measure --write docs/judgement.md

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(RLLIB) build .mypy_cache .ruff_cache .pytest_cache .hypothesis
