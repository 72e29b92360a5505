# Targets for people; the work is in scripts/. Stamps make a second run a matter of seconds.
PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/stamp
CORE := setup.py edgecache/_core.pyx $(wildcard edgecache/native/*.pxd edgecache/native/*.h) \
	$(wildcard edgecache/face/*.pxi)
PROBE := scripts/probe.py $(wildcard tests/native/*.pyx tests/native/probe/*.pxi)
BROWSER := $(wildcard tests/browser/package.json tests/browser/package-lock.json)
export PYTHON VENV STAMP

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help build demo test build-tests bench bench-peers lint format debug annotate requirements clean asan tsan fuzz

help: ## say what each target does
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: $(STAMP)/core ## prepare .venv: pinned packages, compiled core, entry points

demo: build ## a live broadcast on this machine; Ctrl-C ends it (ARGS="--http-a 8080 …")
	@scripts/foreground $(BIN)/edgecache demo $(ARGS)

test: build-tests ## everything that is checked: lint, tidy, unit, native, system, browser
	@scripts/test $(ARGS)

build-tests: $(STAMP)/probe $(STAMP)/browser ## what the tests need on top of build

bench: $(STAMP)/bench-packages ## every question of bench/scenarios against the floor and the peers (about 40 min)
	@$(BIN)/python -m bench $(ARGS)

bench-peers: ## install the peers and h2load from Debian (root)
	@bench/peers/install

lint: build-tests ## ruff, ruff format, mypy --strict, cython-lint
	@scripts/lint

format: build-tests ## let ruff rewrite the Python files
	@$(BIN)/ruff check --quiet --fix . && $(BIN)/ruff format --quiet .

debug: $(STAMP)/packages ## the core at -O0 -g3 with live-object counters; the next build undoes it
	@rm -f $(STAMP)/core
	@EDGECACHE_DEBUG=1 scripts/build core

asan: build-tests ## native and race tests on a core with ASAN and UBSAN (ARGS="tests/native -k …")
	@scripts/sanitize address $(ARGS)

tsan: build-tests ## the same on a core with TSAN
	@scripts/sanitize thread $(ARGS)

fuzz: build-tests ## a minute of fuzzing of heads, targets and ranges (ARGS="seconds seed")
	@scripts/fuzz $(ARGS)

annotate: $(STAMP)/packages ## how much Python is left in the core: build/annotate/_core.html
	@scripts/build annotate

requirements: ## resolve requirements/*.in into pinned files with hashes
	@scripts/requirements

clean: ## remove everything that was built, the environment too
	@rm -rf $(VENV) build dist *.egg-info edgecache/*.so tests/native/*.so tests/browser/node_modules
	@find edgecache origin tests -name __pycache__ -prune -exec rm -rf {} +

$(STAMP)/packages: requirements/run.txt requirements/ffmpeg.txt scripts/setup
	@scripts/setup run

$(STAMP)/core: $(CORE) pyproject.toml $(STAMP)/packages
	@scripts/build core

$(STAMP)/test-packages: requirements/test.txt $(STAMP)/packages
	@scripts/setup test

$(STAMP)/bench-packages: requirements/bench.txt $(STAMP)/core
	@scripts/setup bench

$(STAMP)/probe: $(PROBE) $(STAMP)/core $(STAMP)/test-packages
	@scripts/build probe

$(STAMP)/browser: $(BROWSER) $(STAMP)/test-packages
	@scripts/build browser
