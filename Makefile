.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
EVENTS ?= 10000000
MINUTES ?= 15
BENCH_DIR ?= build/bench-$(EVENTS)

.PHONY: trip help install run test test-rules test-dashboards test-deployment test-faults test-long dashboards pictures bench lint format requirements licences sbom pages clean

help:  ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# A Python that is named is the one that .venv is made with, also where there is a .venv already.
INSTALL := PYTHON="$(PYTHON)" GOALS="$(MAKECMDGOALS)" sh tools/supply/install $(if $(filter file,$(origin PYTHON)),,--this-python)

install:  ## make .venv with all that run and test need
	@$(INSTALL) requirements/run.txt requirements/dev.txt

run:  ## serve on 127.0.0.1:8000, with embedded servers and demo events
	@$(INSTALL) requirements/run.txt
	$(BIN)/python main.py demo --if-empty
	$(BIN)/python main.py serve

test: install  ## the suite, on real PostgreSQL and real Redis/Valkey
	$(BIN)/python -m pytest -n auto --dist worksteal

test-rules: install  ## the rules for Prometheus: each alert fires when it should; needs promtool
	$(BIN)/python -m pytest -p no:randomly tests/rules

test-dashboards: install  ## each panel, over a running Prometheus and PostgreSQL; needs prometheus
	$(BIN)/python -m pytest -p no:randomly tests/dashboards

test-deployment: install  ## the units of deploy/systemd, by systemd-analyze; needs systemd
	$(BIN)/python -m pytest -p no:randomly tests/deployment

test-faults: install  ## killed, silent and full servers, and all that is random; needs promtool
	EXAMPLES=all $(BIN)/python -m pytest -p no:randomly -m thorough tests/faults tests/repo $(FAULTS_OPTIONS)

test-long: install  ## everything at once for MINUTES, while servers and processes are killed
	MINUTES=$(MINUTES) $(BIN)/python -m pytest -p no:randomly tests/faults/test_long.py

dashboards: install  ## write grafana/dashboards/*.json anew, which tools/dashboards makes
	$(BIN)/python -m tools.dashboards

pictures: install  ## draw docs/pictures/*.png anew, of a service at work; 6 minutes, needs prometheus
	$(BIN)/python -m tools.pictures

bench: install  ## this service beside others, over EVENTS events kept in BENCH_DIR; needs wrk
	@$(INSTALL) requirements/bench.txt
	$(BIN)/python -m bench --events $(EVENTS) --folder $(BENCH_DIR) $(BENCH_OPTIONS)

trip: install  ## print how many files a request walks through
	$(BIN)/python -m tools.trip

pages: install  ## write the answers that the pages show anew, from a running service
	TEST_WRITE_PAGES=1 $(BIN)/python -m pytest -q -p no:randomly tests/contract/test_answers.py

lint: install  ## ruff and mypy --strict, tests included; known weaknesses of packages, where they can be asked for
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m tools.supply.audit

format: install  ## ruff's fixes and layout
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

requirements: install  ## pin the dependencies of pyproject.toml anew, with hashes
	$(BIN)/python -m uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header pyproject.toml --group embedded -o requirements/run.txt
	$(BIN)/python -m uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header pyproject.toml -c requirements/run.txt -o requirements/image.txt
	$(BIN)/python -m uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header pyproject.toml --group embedded --group dev -c requirements/run.txt -o requirements/dev.txt
	$(BIN)/python -m uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --group bench -c requirements/dev.txt -o requirements/bench.txt

licences: install  ## write docs/licences.md: what the packages that are needed say
	$(BIN)/python -m tools.supply.licences

sbom: install  ## write build/sbom.json: what the image is made of, as CycloneDX
	mkdir -p build
	$(BIN)/python -m cyclonedx_py requirements requirements/image.txt --pyproject pyproject.toml --output-reproducible --validate -o build/sbom.json

clean:  ## remove .venv and caches
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis
