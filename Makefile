# Two commands: `make run` shows the product, `make test` proves it. The rest is below `make help`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST_FLAGS ?=
PEERS  ?= build/peers
BENCH_FLAGS ?=

.PHONY: run test setup check tpm rig lock bench bench-peers help clean

run: $(VENV)/.run ## start the demonstration on loopback and print its address
	@$(BIN)/dermstation demo

test: setup debian-packages check ## everything: style, types, layers, tests
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

setup: $(VENV)/.dev ## make .venv with all that tests and export need, torch's CPU build included

check: $(VENV)/.dev ## style, types, layers and spelling only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

bench: $(VENV)/.dev ## measure this project beside its peers; without peers, the demonstration bundle alone
	$(BIN)/python tests/benchmarks/compare.py --peers $(PEERS) $(BENCH_FLAGS)

bench-peers: $(VENV)/.dev ## build and convert what make bench compares with (llama.cpp, OpenVINO GenAI, a 4B checkpoint; 40 GB)
	sh tests/benchmarks/peers/prepare.sh $(PEERS)

tpm: $(VENV)/.run ## build what the box PIN needs into .venv (needs a C compiler, pkg-config and libtss2-dev)
	$(PIP) install 'tpm2-pytss>=3'

rig: $(VENV)/.dev ## fetch what the tests' virtual machine needs, then: make test PYTEST_FLAGS=--vm
	@sh tests/debian-packages.sh rig/debian-packages.txt
	@cd tests && ../$(BIN)/python -m rig.guest_kernel

lock: $(VENV)/.dev ## pin the newest dependencies (needs uv)
	PATH="$(CURDIR)/$(BIN):$$PATH" sh requirements/lock.sh

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

clean: ## remove what was built here
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

.PHONY: debian-packages
debian-packages:
	@sh tests/debian-packages.sh

# torch.txt, the index's own build, is only taken where the configured index serves no CPU build.
$(VENV)/.dev: $(VENV)/.run requirements/dev.txt requirements/torch-cpu.txt requirements/torch.txt
	$(PIP) install --require-hashes -r requirements/dev.txt
	$(PIP) install --require-hashes -r requirements/torch-cpu.txt || $(PIP) install --require-hashes -r requirements/torch.txt
	@touch $@

$(VENV)/.run: requirements/run.txt pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dermstation needs Python 3.11 or newer; set PYTHON=...")'
	@$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-venv && $(PYTHON) -m venv $(VENV); \
	} || { echo "Install the Debian package python3-venv, then run this again." >&2; exit 1; }
