# Everything a developer runs. `make demo` and `make test` set themselves up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test slow bench mockup gpu check format golden lock deb docs clean

help: ## show this
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "gputally needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(READY) ## a simulated node: a week of history, then live
	@$(BIN)/gputally demo

test: $(READY) ## all tests but the slow ones
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

slow: $(READY) ## long property and kill runs
	$(BIN)/python -m pytest -m slow

bench: $(READY) ## figures: speed, memory, processor time
	$(BIN)/python -m bench

mockup: $(READY) ## pictures of the dashboards out of a real store: build/mockup
	$(BIN)/python -m bench.mockup --out build/mockup

gpu: $(READY) ## check against a real GPU and nvidia-smi; writes tests/recorded/
	$(BIN)/python -m bench.gpu

check: $(READY) ## format, lint, types, layers, tests: what CI runs
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

format: $(READY) ## format and sort
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

golden: $(READY) ## write the golden files anew; look at the difference before you commit it
	GOLDEN=write $(BIN)/python -m pytest -q -k golden

COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --generate-hashes \
  --python-version 3.11 --no-emit-index-url --no-emit-find-links pyproject.toml
lock: $(READY) ## write both locks anew: what is shipped, each file by its hash; -agent: what a node needs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(COMPILE) --extra report --extra dashboards --extra parquet --output-file requirements.lock
	$(COMPILE) --constraint requirements.lock --output-file requirements-agent.lock

deb: $(READY) ## Debian packages: dist/gputally_*.deb, dist/gputally-report_*.deb
	$(BIN)/python packaging/deb/build.py

docs: $(READY) ## write docs/metrics.md and docs/runbooks.md anew
	$(BIN)/gputally metrics --markdown > docs/metrics.md
	$(BIN)/gputally rules list --markdown > docs/runbooks.md

clean: ## remove what make made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
