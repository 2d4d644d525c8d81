# `make` alone prints the menu.
PYTHON ?= python3.11
PYTEST_ARGS ?=
BIN := .venv/bin
FLOOR := .venv-floor/bin
LINT := .venv-lint/bin
DEMO := build/demo

.DEFAULT_GOAL := help
.PHONY: help demo test check format lint types unit floor bench clean venv linters
.PHONY: docs site e2e containers interop images images-offline archive locks

##@ Use
demo: venv ## Sample data, the whole pipeline, a join of three bucketed tables, the report
	rm -rf $(DEMO)
	$(BIN)/bucketwheel sample $(DEMO)/data --rows 1000000 --tables 8
	$(BIN)/bucketwheel run addressable_ids --env demo
	$(BIN)/bucketwheel run infobase_attributes --env demo
	$(BIN)/python integration/demo/join.py $(DEMO)/out/catalog.duckdb
	$(BIN)/bucketwheel report last --env demo --to $(DEMO)/report.html
	@grep -q '<title>infobase_attributes ' $(DEMO)/report.html || { echo 'the report is of another dataset' >&2; exit 1; }

e2e: venv ## The whole pipeline by Compose: Spark cluster, S3, Glue's API; everything read back and compared
	docker/build.sh glue
	$(BIN)/python -m integration.e2e $(E2E_ARGS)

##@ Develop
test: venv floor linters ## Everything that can run here: all tests, with the newest and the oldest pyarrow and numpy
	$(BIN)/pytest -n 2 --dist loadgroup --cov --cov-report=term --cov-fail-under=90 $(PYTEST_ARGS)
	$(FLOOR)/pytest -n 2 --dist loadgroup -m "not crash and not slow" --ignore=tests/deploy/test_template_linters.py $(PYTEST_ARGS)
	$(MAKE) interop containers

interop: venv ## The part of `make test` in which a real Trino reads the tables; needs Maven once, Java 24 or newer, LocalStack
	$(BIN)/pytest integration/interop $(PYTEST_ARGS)

containers: venv floor ## The part of `make test` that needs Docker; says so where there is none
	$(BIN)/pytest -m docker integration $(PYTEST_ARGS)

check: format lint types unit ## Format, lint, direction of imports, types, unit tests

format: venv
	$(BIN)/ruff format --check .

lint: venv
	$(BIN)/ruff check --no-cache .
	$(BIN)/lint-imports --config setup.cfg

types: venv
	$(BIN)/mypy

unit: venv
	HYPOTHESIS_PROFILE=quick $(BIN)/pytest -n 2 -q -m "not slow" tests/unit $(PYTEST_ARGS)

docs: venv ## The generated parts of docs/, anew from the code
	$(BIN)/python -m integration.docs_tools

site: venv ## The documentation as a site that works offline: build/site
	$(BIN)/python -m integration.site_tools build/site

bench: venv ## Speed and memory beside other tools; prints a table, writes build/bench.json
	$(BIN)/pip install -q -c constraints.txt -e '.[bench]'
	$(BIN)/python -m integration.benchmarks $(BENCH_ARGS)

clean: ## Remove everything that make has made
	rm -rf .venv .venv-floor .venv-lint build dist htmlcov .coverage .coverage.* .*_cache app/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

##@ Containers
images: ## The application on AWS's own bases, and the services; pulls them
	rm -f docker/.env
	docker/build.sh pull glue emr

images-offline: ## The same without an image registry: from packages of Debian, PyPI and Maven Central
	docker/offline/build.sh
	docker/build.sh glue emr

archive: ## build/bucketwheel-venv.tar.gz for Glue's --python-virtual-env and EMR's spark.archives
	docker/build.sh archive

##@ Environments
venv: .venv/installed ## .venv with everything at the versions of constraints.txt
linters: .venv-lint/installed ## .venv-lint with checkov, whose packages do not fit beside ours
floor: .venv-floor/installed ## .venv-floor with pyarrow and numpy as Glue 5.0 ships them

.venv/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[aws,duckdb,spark,trino,dev,docs]'
	touch $@

.venv-floor/installed: setup.cfg constraints-floor.txt
	$(PYTHON) -m venv .venv-floor
	$(FLOOR)/pip install -q --disable-pip-version-check -c constraints-floor.txt -e '.[aws,duckdb,spark,trino]' 'moto[server]' pandas polars pytest pytest-xdist hypothesis wheel
	touch $@

.venv-lint/installed: constraints-lint.txt
	$(PYTHON) -m venv .venv-lint
	$(LINT)/pip install -q --disable-pip-version-check -c constraints-lint.txt checkov
	touch $@

locks: ## What images are made from, anew: docker/**/*.txt from setup.cfg and *.in
	docker/offline/lock.sh

help:
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*##/ {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
