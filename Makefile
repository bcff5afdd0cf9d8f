# Each target does the set-up it needs, in .venv. pip's own environment variables are honoured, for instance
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make repro      the small download of PyTorch, without CUDA
SHELL := /bin/sh
PYTHON ?= python3
REAL_DATA ?= ../shared/data
# As it is: in the name of a folder, make would run what stands in $(shell ...).
override REAL_DATA := $(value REAL_DATA)
export REAL_DATA
KILLS ?= 50
DRAWS ?= 300
# Three test processes for two cores: many tests wait, for processes that start or for a time to be over. One
# that has no tests left takes some from the others.
SHARED := -n 3 --dist worksteal
BIN := .venv/bin
STAMP := .venv/.installed

# Stages call `python`, and `dvc queue start` calls `dvc`: both must be those of .venv.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
# Images for containers often set it; every start of every process would then compile our sources anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup repro plots test soak format check real-data docs lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s%s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# pip would compile all of every package, which takes as long as installing them. A quarter of that is what is ever imported: this.
USED := import dvc.cli, pose.inference.predict, pose.report, pose.tracking.mlflow, pose.training.trainer, pytest, torch._dynamo

setup: $(STAMP) ## install the pinned versions and this package into .venv

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON): found $$($(PYTHON) -V 2>&1 | head -n 1), expected Python 3.11 or newer (make PYTHON=python3.12 ...)" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/python -c '$(USED)'
	@touch $@

# exec: no shell stands between make and what ends its stages.
repro: $(STAMP) ## data, training, evaluation and report: all that is out of date, two stages at a time on two cores
	@exec $(BIN)/pose repro

# DVC's page reads Vega from the network; vl-convert carries it. 5.20: the Vega-Lite of the same major version as DVC's.
VEGA := import pathlib, vl_convert; pathlib.Path("build/vega.js").write_text(vl_convert.javascript_bundle(vl_version="5.20"))

plots: $(STAMP) build/vega.js ## the curves of DVC's plots as a page that needs no network, dvc_plots/index.html
	@$(BIN)/dvc plots show

build/vega.js: | $(STAMP)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[plots]'
	@mkdir -p build && $(BIN)/python -c '$(VEGA)'

test: $(STAMP) ## all tests, the fast ones first
	@fast=0; slow=0; \
	$(BIN)/python -m pytest $(SHARED) -m 'not slow' || fast=$$?; \
	$(BIN)/python -m pytest $(SHARED) -m 'slow and not soak' || slow=$$?; \
	if [ $$fast -eq 0 ]; then exit $$slow; else exit $$fast; fi

# Tiny networks spend their time where a kill may hurt: in checkpoints, not in convolutions. The data is the demo's.
soak: $(STAMP) ## the longest tests; random parameters; each write failing; each task killed KILLS (50) times: two hours
	@$(BIN)/python -m pytest $(SHARED) -m soak
	@FUZZ_DRAWS=$(DRAWS) EVERY_WRITE=1 $(BIN)/python -m pytest -n 2 -rP tests/faults
	@$(BIN)/dvc repro prepare_lsp_mpii prepare_coco build_ext
	@for task in hgpose advpose hgpose-ae advpose-ae; do \
	  $(BIN)/pose verify $$task --preset tiny --kills $(KILLS) --steps $$((8 * $(KILLS))) || exit 1; done

format: $(STAMP) ## rewrite the sources as ruff lays them out
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

check: $(STAMP) ## ruff and mypy, changing nothing
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

real-data: $(STAMP) ## link real images (REAL_DATA=folder) into data/real, laid out as the stages expect them
	@$(BIN)/pose link-data -- "$$REAL_DATA"

docs: $(STAMP) ## the documentation as a site, build/site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo build/site/index.html

# PyTorch stays as it is pinned: a new release asks for other drivers and a rebuilt operator, so raise that line by hand.
lock: ## write constraints.txt anew: the newest versions that pyproject.toml allows
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && grep '^torch==' constraints.txt > "$$fresh/torch.txt" && \
	$(PYTHON) -m venv "$$fresh/venv" && "$$fresh/venv/bin/python" -m pip install --quiet --constraint "$$fresh/torch.txt" --editable '.[dev,plots]' && \
	{ sed -n '/^#/p' constraints.txt; "$$fresh/venv/bin/python" -m pip freeze --all --exclude pip --exclude-editable | \
	  sed -E -e '/^nvidia-ml-py==/b' -e '/^(nvidia-|cuda-|triton)/d; s/\+[a-z0-9.]+$$//'; } > constraints.txt.new && \
	mv constraints.txt.new constraints.txt

clean: ## remove what the stages made (not .venv, DVC's cache, MLflow's store, your own data)
	rm -rf data/synthetic data/prepared build models checkpoints predictions report
	if [ -d data/real ]; then find data/real -type l -delete; find data/real -type d -empty -delete; fi
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find pose stages tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
