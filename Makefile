# make run   a working engine on this machine, http://127.0.0.1:8080
# make test  everything that must hold before a change lands
# make lint  the same without the tests
#
# Nothing is needed but make and Python 3.11 or later. The virtual environment is made once, and again when
# pyproject.toml changes.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= auto
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
# Wheels only: a machine without a compiler fails at once and clearly, not in the middle of a build.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --only-binary=:all:
OLD_POSTGRES := 15

.PHONY: run test lint check clean

run: $(VENV)/.run
	@exec $(BIN)/gorax dev

test: lint
	$(BIN)/pytest -n $(WORKERS) -m "not bench"
	@if [ -x /usr/lib/postgresql/$(OLD_POSTGRES)/bin/postgres ]; then \
		echo "Again on PostgreSQL $(OLD_POSTGRES):"; \
		GORAX_TEST_POSTGRES=$(OLD_POSTGRES) $(BIN)/pytest -n $(WORKERS) -m "postgres and not bench"; \
	else \
		echo "PostgreSQL $(OLD_POSTGRES) is not installed: the tests ran on the packaged version only."; \
	fi

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then echo "Python 3.11 or later is needed; set PYTHON=/path/to/it." >&2; exit 1; fi
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip --disable-pip-version-check --quiet install --upgrade 'pip>=25.1'

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) --group dev
	@touch $@
