# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check bench packs format install clean

install: $(STAMP)

# torch first and by itself: asked for by a range, it would bring gigabytes of GPU libraries.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[server,sb3,postmortem]" --group dev
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/watchstep demo

test: $(STAMP)
	$(BIN)/python -m pytest

# Seconds: style, types, layers, sizes.
check: $(STAMP)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/shape

bench: $(STAMP)
	for name in engine_cost diagnosis_cost log_cost ingest_cost alert_latency finite_cost checkpoint_cost; do \
	  echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

# After a change to a pack or to the compiler: read and compile them once, so that trainers need not.
packs: $(STAMP)
	$(BIN)/python -c "from watchstep.rules.baked.making import main; main()"

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
