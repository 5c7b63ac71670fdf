# The two commands that a new user needs are `make demo` and `make test`; both set everything up first.

PYTHON ?= python3
BIN := .venv/bin
# Newer releases of torch are larger downloads and untested; another build (CUDA, CPU wheels) that is already installed is kept.
TORCH ?= torch==2.13.0

.PHONY: demo install test test-fast check coverage clean help

demo: .venv/installed
	$(BIN)/osn demo osn-demo

install: .venv/installed

test: .venv/installed-dev check
	$(BIN)/python -m pytest -q

test-fast: .venv/installed-dev check
	$(BIN)/python -m pytest -q -m "not slow"

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

coverage: .venv/installed-dev
	$(BIN)/python -m pytest -q --cov --cov-report=term-missing:skip-covered

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "osn needs Python 3.11 or newer: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv osn-demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

help:
	@echo "make [demo]     install, then run the whole chain on a synthetic video (osn-demo/)"
	@echo "make install    install only, into .venv"
	@echo "make test       install, then lint, type-check and run all tests; make test-fast skips the slow ones"
	@echo "make coverage   run all tests, and list the lines they miss"
	@echo "make clean      remove .venv, osn-demo and build leftovers; workspaces are kept"
