# Every target sets up what it needs in .venv; nothing else has to be installed but Python 3.11+.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two cores share one machine's caches; torch spins badly when several processes take all threads.
TEST_THREADS ?= 2

.PHONY: help demo test test-slow bench check format clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.installed ## the whole loop on bundled photographs and the bundled generator, a few minutes
	$(BIN)/gendataagent run --preset demo

test: $(VENV)/.installed-dev ## lint, types and the tests (under 15 minutes on two cores)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/pytest

check: test ## what CI runs

test-slow: $(VENV)/.installed-dev ## the tests that take minutes: the demo killed at random moments, the trainer of tiny-sd
	OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/pytest -m slow --timeout=1800

bench: $(VENV)/.installed ## every compared system on few photographs, hours; started again it goes on
	$(BIN)/gendataagent experiment fewshot-cifar10 --out runs/bench

format: $(VENV)/.installed-dev ## let ruff put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist

$(VENV)/bin/pip:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/pip pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
