# The doors of this project; `.ci/run` and pre-commit go through the same ones.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-slow lint bench
.DEFAULT_GOAL := test

# One install per state of the two files that decide it.
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e '.[all,dev]'
	@touch $@

setup: .venv/.installed

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -m "not slow"

test-slow: setup
	$(BIN)/pytest -m slow --timeout 1800
