# `make demo` and `make test` each work alone on a machine with python3, make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Hosts of the adapters. Without dependencies: they ask for torchvision, whose only build for Linux on registries brings
# CUDA, for cufinufft and for training frameworks; what they import is in the dev extra.
HOSTS := "fastmri>=0.3,<0.4" "deepinv>=0.5,<0.6" "mrpro>=0.261015" "pytorch-finufft>=0.1"

.PHONY: demo docs test lint typecheck figures benchmarks container clean

demo: $(VENV)/.installed
	$(BIN)/mrnoise demo --output demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

# The site, its examples run, and the API reference: build/docs/site.
docs: $(VENV)/.installed-dev
	$(BIN)/python docs/build.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

typecheck: $(VENV)/.installed-dev
	$(BIN)/mypy

# A stamp for each kind of install: nothing is done the second time unless the dependencies changed.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "mrnoise: cannot create a virtual environment; expected Python >= 3.11 with the venv module (on Debian: python3-venv)"; exit 2; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing mrnoise into $(VENV), once; this takes a minute or two."
	$(BIN)/pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing mrnoise and the tools of its tests into $(VENV), once; this takes a minute or two."
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	$(BIN)/pip install --quiet -c constraints.txt --no-deps $(HOSTS)
	@touch $@ $(VENV)/.installed

# The picture of the README, made by the demo, and that of docs/networks.md.
figures: demo
	cp demo/panel.png docs/demo.png
	$(BIN)/python benchmarks/frozen_derivatives.py --figure docs/frozen.png --json benchmarks/results/frozen_derivatives.json

benchmarks: $(VENV)/.installed
	$(BIN)/python benchmarks/memory_and_cost.py --json benchmarks/results/memory_and_cost.json
	$(BIN)/python benchmarks/networks.py cost --json benchmarks/results/network_cost.json --only varnet n2r

# An image with the server and the label of Open Recon (docs/scanner.md). CONTAINER_OPTIONS go to the build.
CONTAINER ?= $(or $(shell command -v docker),$(shell command -v podman))
container: $(VENV)/.installed
	@test -n "$(CONTAINER)" || { echo "mrnoise: no container tool; expected docker or podman in PATH"; exit 2; }
	$(BIN)/python -c "from mrnoise.serving.label import written; print(written(), end='')" > container/openrecon.json
	$(CONTAINER) build $(CONTAINER_OPTIONS) -f container/Dockerfile -t mrnoise \
	  --build-arg OPENRECON="$$($(BIN)/python -c 'from mrnoise.serving.label import encoded; print(encoded())')" .

clean:
	rm -rf $(VENV) demo
