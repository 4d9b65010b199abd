.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
EVENTS ?= 10000000
MINUTES ?= 15
BENCH_DIR ?= build/bench-$(EVENTS)

.PHONY: trip help install run test test-rules test-dashboards test-deployment test-sdks test-comparison test-faults test-long dashboards pictures bench lint format requirements licences sbom pages clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# An explicit PYTHON is used for .venv even if .venv exists already with another interpreter.
INSTALL := PYTHON="$(PYTHON)" GOALS="$(MAKECMDGOALS)" sh tools/supply/install $(if $(filter file,$(origin PYTHON)),,--this-python)

install:  ## create .venv with everything that run and test need
	@$(INSTALL) requirements/run.txt requirements/dev.txt

run:  ## serve on 127.0.0.1:8000, with embedded servers and demo events
	@$(INSTALL) requirements/run.txt
	$(BIN)/python main.py demo --if-empty
	$(BIN)/python main.py serve

test: install  ## run the test suite, on real PostgreSQL and Redis/Valkey
	$(BIN)/python -m pytest -n auto --dist worksteal

test-rules: install  ## test the Prometheus rules and that each alert fires; needs promtool
	$(BIN)/python -m pytest -p no:randomly tests/rules

test-dashboards: install  ## run the queries of each panel on Prometheus and PostgreSQL; needs prometheus
	$(BIN)/python -m pytest -p no:randomly tests/dashboards

test-deployment: install  ## check the units of deploy/systemd with systemd-analyze; needs systemd
	$(BIN)/python -m pytest -p no:randomly tests/deployment

test-sdks: install  ## run SDKs, web pages, and the programs of docs/clients.md; needs chromium
	$(BIN)/python -m venv build/sdks
	build/sdks/bin/pip install -q --require-hashes -r requirements/sdks.txt
	mkdir -p build/sdks/node
	cp requirements/node/*.json build/sdks/node
	PATH="$(CURDIR)/build/sdks/bin:$$PATH" build/sdks/bin/npm ci --prefix build/sdks/node --ignore-scripts --no-audit --no-fund --silent
	$(BIN)/python -m pytest -p no:randomly tests/sdks

test-comparison: install  ## compare answers with those of chDB and DuckDB, and read exports; needs java
	$(BIN)/python -m venv build/comparison
	build/comparison/bin/pip install -q --require-hashes -r requirements/comparison.txt
	build/comparison/bin/pip download -q --no-deps -d build/comparison/datasets retentioneering==3.3.0
	build/comparison/bin/pip download -q --no-deps -d build/comparison/datasets retentioneering==5.2.4
	$(BIN)/python -m pytest -p no:randomly tests/comparison

test-faults: install  ## test killed, silent and full servers, and all random examples; needs promtool
	EXAMPLES=all $(BIN)/python -m pytest -p no:randomly -m thorough tests/faults tests/repo tests/unit $(FAULTS_OPTIONS)

test-long: install  ## mixed load for MINUTES, while servers and processes are killed
	MINUTES=$(MINUTES) $(BIN)/python -m pytest -p no:randomly tests/faults/test_long.py

dashboards: install  ## generate grafana/dashboards/*.json from tools/dashboards
	$(BIN)/python -m tools.dashboards

pictures: install  ## draw docs/pictures/*.png from a running service; 6 minutes, needs prometheus
	$(BIN)/python -m tools.pictures

bench: install  ## benchmark with EVENTS events, stored in BENCH_DIR, beside other systems; needs wrk
	@$(INSTALL) requirements/bench.txt
	$(BIN)/python -m bench --events $(EVENTS) --folder $(BENCH_DIR) $(BENCH_OPTIONS)

trip: install  ## print how many files a request walks through
	$(BIN)/python -m tools.trip

pages: install  ## rewrite the answers on the pages from a running service, and their pictures
	TEST_WRITE_PAGES=1 $(BIN)/python -m pytest -q -p no:randomly tests/contract/test_answers.py
	$(BIN)/python -m tools.pictures.answers

lint: install  ## ruff, mypy --strict, and known vulnerabilities of packages where the database can be reached
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m tools.supply.audit

format: install  ## apply ruff's fixes and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

requirements: install  ## pin the dependencies of pyproject.toml, with hashes
	$(BIN)/python -m uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header pyproject.toml --group embedded -o requirements/run.txt
	$(BIN)/python -m uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header pyproject.toml -c requirements/run.txt -o requirements/image.txt
	$(BIN)/python -m uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header pyproject.toml --group embedded --group dev -c requirements/run.txt -o requirements/dev.txt
	$(BIN)/python -m uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --group bench -c requirements/dev.txt -o requirements/bench.txt
	$(BIN)/python -m uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --group sdks -o requirements/sdks.txt
	$(BIN)/python -m uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --group comparison -o requirements/comparison.txt

licences: install  ## generate docs/licences.md from the metadata of the packages
	$(BIN)/python -m tools.supply.licences

sbom: install  ## write build/sbom.json, the contents of the image as CycloneDX
	mkdir -p build
	$(BIN)/python -m cyclonedx_py requirements requirements/image.txt --pyproject pyproject.toml --output-reproducible --validate -o build/sbom.json

clean:  ## remove .venv and caches
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis
