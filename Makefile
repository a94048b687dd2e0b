# Everything a person types most days. `make` alone lists it.
#
# PYTHON=python3.12 make setup   uses this Python for .venv (3.10 to 3.13)

BIN := .venv/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile  # a process a core
TOOLS := tools/install_detectron2 $(wildcard tools/*.py tools/evidence/*.py tools/evidence/study/*.py benchmarks/*.py)

# A thread that waits spins for a moment, then sleeps. Spinning on, GNU OpenMP's default, took a third more time where the
# machine does other work too; sleeping at once took half as much again in the detectors (two cores, medians).
export GOMP_SPINCOUNT ?= 2000

.DEFAULT_GOAL := help
.PHONY: help setup quickstart study study-quick test test-fast lint format bench doctor lock clean clean-venv

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: ## make .venv and install everything (3 minutes, 6.5 GB; does nothing where that is done)
	@tools/setup.sh

quickstart: setup ## the whole chain on the built-in demo pictures, ends with work_dirs/quickstart/report.html
	@$(BIN)/python tools/quickstart

study: setup ## every mixing method on two small sources of images, three seeds; goes on where it stopped (6 hours)
	@$(BIN)/python tools/study.py

study-quick: setup ## a part of the study, which counts for the whole (a quarter of an hour)
	@$(BIN)/python tools/study.py --quick

test: setup ## all tests
	@$(PYTEST)

test-fast: setup ## the tests that take less than ten seconds each
	@$(PYTEST) -m "not slow"

lint: setup ## formatting, ruff, types, import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/mypy --scripts-are-modules $(TOOLS)
	@MYPYPATH=tools $(BIN)/mypy --scripts-are-modules $(wildcard tools/quickstart/*.py)  # two scripts are named report.py
	@$(BIN)/lint-imports

format: setup ## rewrite the code in the project's format
	@$(BIN)/ruff check -q --fix-only .
	@$(BIN)/ruff format .

bench: setup ## every benchmark under benchmarks/
	@set -e; for file in $(wildcard benchmarks/*.py); do echo "== $$file"; $(BIN)/python $$file; done

doctor: ## versions, devices, data sets; what is missing and the command that mends it
	@test -x $(BIN)/python || { echo "error: there is no .venv yet; run: make setup" >&2; exit 1; }
	@$(BIN)/python tools/doctor.py

lock: ## renew requirements.lock after a change in pyproject.toml (needs uv)
	uv pip compile -q --universal --python-version 3.10 --extra cpu --extra cam --extra dev --no-annotate pyproject.toml -o requirements.lock

clean: ## remove caches; data, runs and .venv stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
	find pretrain transfer wsol tools tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

clean-venv: ## remove .venv
	rm -rf .venv
