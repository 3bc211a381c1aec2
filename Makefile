# `make` alone lists the recipes. They need Python 3.11 to 3.13 with venv, and a package registry
# for the first run; everything goes into .venv.

PY := .venv/bin/python
PURE := tests/leaves tests/flow
ARGS ?=
# The tests start hundreds of processes; without bytecode each would compile all it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test quick chaos lint bench dev embedded clean

help: ## list these recipes
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: embedded ## index this Python's standard library in a flow, everything embedded; KILL=1 kills workers meanwhile
	@$(PY) -m examples.index_library $(if $(filter 1,$(KILL)),--kill) $(ARGS)

test: dev ## the whole test suite, three tests at a time; ARGS="-k word" hands options to pytest
	@$(PY) -m pytest -n 3 $(ARGS)

quick: lint ## lint, types and the pure tests: under a minute, no services
	@$(PY) -m pytest -q $(PURE) $(ARGS)

chaos: dev ## only the tests that kill processes and services
	@$(PY) -m pytest -m chaos $(ARGS)

lint: dev ## ruff, formatting, types, import rule
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports --no-cache

bench: dev ## measure against plain Celery
	@$(PY) -m benchmarks $(ARGS)

dev embedded:
	@sh tools/setup.sh $@

clean: ## remove what was installed and cached here
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
