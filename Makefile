# mammoprep and mammotrain. `make demo` and `make test` work on a bare machine with Python 3.11 or newer.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := data/demo

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint types prove bench clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv and install everything, pinned, without CUDA

$(STAMP): pyproject.toml constraints-cpu.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints-cpu.txt -e '.[train,dev]'
	touch $(STAMP)

demo: $(STAMP) ## Build a synthetic dataset, check it, train on synthetic patches, and say where the reports are
	$(BIN)/mammoprep build --source demo --size 364x728 --input $(DEMO)/raw --out $(DEMO)/shards
	$(BIN)/mammoprep verify $(DEMO)/shards
	$(BIN)/mammotrain run deq --data demo --out $(DEMO)/run --resume

test: $(STAMP) ## Run the fast tests
	$(BIN)/python -m pytest -q -n auto -m 'not slow'

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

check: lint types ## Everything CI runs: lint, format, types, all tests
	$(BIN)/python -m pytest -q -n auto

prove: $(STAMP) ## Plant faults one at a time and see that a test turns red (most of an hour)
	$(BIN)/python tests/mutation.py

bench: $(STAMP) ## Measure beside other ways (docs/benchmarks.md); writes benchmarks/results
	$(BIN)/python benchmarks/decode_speed.py --with-medip
	$(BIN)/python benchmarks/loader_speed.py
	$(BIN)/python benchmarks/augment_speed.py --out benchmarks/results/augment_speed.json
	$(BIN)/python benchmarks/deq_solver.py
	$(BIN)/python benchmarks/step_rate.py

clean: ## Remove what make made, and nothing else
	rm -rf $(VENV) $(DEMO) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
