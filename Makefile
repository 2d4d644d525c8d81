# `make` alone prints the menu.
PYTHON ?= python3.11
PYTEST_ARGS ?=
BIN := .venv/bin
FLOOR := .venv-floor/bin
DEMO := build/demo

.DEFAULT_GOAL := help
.PHONY: help demo test check format lint types unit floor judge bench clean venv

##@ Use
demo: venv ## Sample data, the whole pipeline, a join of three bucketed tables, the report
	rm -rf $(DEMO)
	$(BIN)/bucketwheel sample $(DEMO)/data --rows 1000000 --tables 8
	$(BIN)/bucketwheel run --env demo
	$(BIN)/python integration/demo/join.py $(DEMO)/out/catalog.duckdb
	$(BIN)/bucketwheel report last --env demo --to $(DEMO)/report.html

##@ Develop
test: venv floor ## Everything that can run here: all tests, with the newest and the oldest pyarrow and numpy
	$(BIN)/pytest -n 2 --dist loadgroup --cov --cov-report=term --cov-fail-under=90 $(PYTEST_ARGS)
	$(FLOOR)/pytest -n 2 --dist loadgroup -m "not crash" $(PYTEST_ARGS)
	$(MAKE) judge

judge: venv ## The part of `make test` in which a real Trino reads what was written; needs Maven and Java 24 or newer
	$(BIN)/pytest integration/judge $(PYTEST_ARGS)

check: format lint types unit ## Format, lint, direction of imports, types, unit tests

format: venv
	$(BIN)/ruff format --check .

lint: venv
	$(BIN)/ruff check .
	$(BIN)/lint-imports --config setup.cfg

types: venv
	$(BIN)/mypy

unit: venv
	$(BIN)/pytest -n 2 -q -m "not crash and not slow and not spark" $(PYTEST_ARGS)

bench: venv ## Speed and memory beside other tools; prints a table, writes build/bench.json
	$(BIN)/pip install -q -c constraints.txt -e '.[bench]'
	$(BIN)/python -m integration.bench $(BENCH_ARGS)

clean: ## Remove everything that make has made
	rm -rf .venv .venv-floor build dist htmlcov .coverage .coverage.* .*_cache app/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

##@ Environments
venv: .venv/installed ## .venv with everything at the versions of constraints.txt
floor: .venv-floor/installed ## .venv-floor with pyarrow and numpy as Glue 5.0 ships them

.venv/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[aws,duckdb,spark,trino,dev]'
	touch $@

.venv-floor/installed: setup.cfg constraints-floor.txt
	$(PYTHON) -m venv .venv-floor
	$(FLOOR)/pip install -q --disable-pip-version-check -c constraints-floor.txt -e '.[aws,duckdb,spark,trino]' 'moto[server]' pandas polars pytest pytest-xdist hypothesis
	touch $@

help:
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*##/ {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
