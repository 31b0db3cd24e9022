# Every target installs what it needs into .venv; only Python 3.11 or newer has to be there.
PYTHON ?= python3
LOWEST_PYTHON ?= python3.11
VENV := .venv
CONSTRAINTS := constraints.txt
BIN := $(VENV)/bin
# The models of the tests are tiny: more threads only wait for each other.
TEST_THREADS ?= 1

.PHONY: help docs demo test test-fast test-slow test-lowest test-python test-quick check bench bench-speed check-package format clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.installed ## the complete loop on bundled images with the bundled generator, a few minutes
	$(BIN)/gendataagent run --preset demo --strategy gendataagent-guided

test: $(VENV)/.installed-dev ## ruff, mypy and all tests but those marked slow; what CI runs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/pytest -n 2 --dist loadfile

test-fast: $(VENV)/.installed-dev ## ruff and the tests not marked slow, integration or browser, under 2 minutes; for daily work
	$(BIN)/ruff check .
	OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/pytest -n 2 -m 'not (slow or integration or browser)'

test-slow: $(VENV)/.installed-dev ## the tests marked slow, and every property test with 2,000 random examples
	OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/pytest -m 'slow or hypothesis' --hypothesis-profile=random --timeout=1800

test-lowest: ## the tests of test-fast with the lowest versions (constraints-lowest.txt), on Python 3.11, in .venv-lowest
	$(MAKE) test-quick PYTHON=$(LOWEST_PYTHON) VENV=.venv-lowest CONSTRAINTS=constraints-lowest.txt

test-python: ## the tests of test-fast on another Python: make test-python PYTHON=python3.13, in .venv-3.13
	$(MAKE) test-quick PYTHON=$(PYTHON) VENV=.venv-$(shell $(PYTHON) -c 'import sys; print(*sys.version_info[:2], sep=".")')

test-quick: $(VENV)/.installed-test
	OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/pytest -n 2 -m 'not (slow or integration or browser)'

check: test ## the same as test

bench: $(VENV)/.installed-dev ## every compared system on few images, hours; run it again to resume
	$(BIN)/gendataagent experiment fewshot-cifar10 --out runs/bench

bench-speed: $(VENV)/.installed ## generation here against one image a call, a minute
	$(BIN)/gendataagent bench --preset demo

docs: .venv-docs/.installed ## the documentation site, in site/; a broken link is an error
	.venv-docs/bin/zensical build --clean --strict

check-package: .venv-release/.installed ## sdist and wheel, checked, and used in empty environments of every Python from 3.11 to 3.13 here; needs 6 GB for a while
	.venv-release/bin/python scripts/release/check_package.py $(if $(PACKAGE_PYTHON),--python $(PACKAGE_PYTHON)) $(if $(PACKAGE_CONSTRAINTS),--constraints $(PACKAGE_CONSTRAINTS))

format: $(VENV)/.installed-dev ## format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) .venv-* site .pytest_cache .mypy_cache .ruff_cache build dist

$(VENV)/bin/pip:
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) here. Install it (system packages, pyenv or uv), or name another: PYTHON=/path/to/python, for test-lowest LOWEST_PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

.venv-docs/.installed: Makefile
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --disable-pip-version-check zensical==0.0.70 mkdocstrings-python==2.0.11
	touch $@

.venv-release/.installed: Makefile
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/pip install --quiet --disable-pip-version-check build==1.6.1 twine==7.0.0
	touch $@

# Without --no-compile, half of the time goes into bytecode of modules that are never imported.
$(VENV)/.installed: $(VENV)/bin/pip pyproject.toml $(CONSTRAINTS)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c $(CONSTRAINTS) -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/bin/pip pyproject.toml $(CONSTRAINTS)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c $(CONSTRAINTS) -e '.[test]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c $(CONSTRAINTS) -e '.[dev]'
	touch $@
