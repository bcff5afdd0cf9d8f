# Each target does the set-up it needs, in .venv. pip's own environment variables are honoured, for instance
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make repro      the small download of PyTorch, without CUDA
SHELL := /bin/sh
PYTHON ?= python3
REAL_DATA ?= ../shared/data
KILLS ?= 50
# Tests on two cores; who has none left takes from the other: some files take minutes.
SHARED := -n 2 --dist worksteal
BIN := .venv/bin
STAMP := .venv/.installed

# Stages call `python`, and `dvc queue start` calls `dvc`: both must be those of .venv.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
# Images for containers often set it; every start of every process would then compile our sources anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup repro test soak format check real-data lock clean

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

# exec: no shell stands between make and dvc.
repro: $(STAMP) ## data, training, evaluation and report: all that is out of date
	@exec $(BIN)/dvc repro

test: $(STAMP) ## all tests, the fast ones first
	@fast=0; slow=0; \
	$(BIN)/python -m pytest $(SHARED) -m 'not slow' || fast=$$?; \
	$(BIN)/python -m pytest $(SHARED) -m slow || slow=$$?; \
	if [ $$fast -eq 0 ]; then exit $$slow; else exit $$fast; fi

# Small networks spend their time where a kill may hurt: in states, not in convolutions. The data is the demo's.
soak: $(STAMP) ## each task killed KILLS (50) times and compared with a run that was not: three quarters of an hour
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

# A link for each file, in folders of our own: behind a link to a folder DVC sees nothing, and would miss every change.
LINK := import os, shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2], copy_function=os.symlink)

# COCO is known by its annotations: beside a small set in `coco-mini` there may be a `coco` that holds nothing but valid_id.
real-data: ## link real images (REAL_DATA=folder) into data/real, laid out as the stages expect them
	@mkdir -p data/real; found=; \
	for names in "LSP lsp" "LSPET lspet" "mpii MPII" "coco COCO coco-mini"; do name=$${names%% *}; \
	  for folder in $$names; do folder="$(REAL_DATA)/$$folder"; \
	    if [ ! -d "$$folder" ] || { [ $$name = coco ] && [ ! -d "$$folder/annotations" ]; }; then continue; fi; \
	    if [ -n "$$(find "data/real/$$name" -type f 2>/dev/null | head -n 1)" ]; then \
	      echo "error: data/real/$$name: found files that are no links, expected nothing of your own there" >&2; exit 1; fi; \
	    rm -rf "data/real/$$name"; \
	    $(PYTHON) -c '$(LINK)' "$$(cd "$$folder" && pwd -P)" "data/real/$$name" || exit 1; \
	    chmod -R u+w "data/real/$$name"; \
	    if [ $$name = coco ] && [ -f "$(REAL_DATA)/coco/valid_id" ] && [ ! -e data/real/coco/valid_id ]; then \
	      ln -s "$$(cd "$(REAL_DATA)/coco" && pwd -P)/valid_id" data/real/coco/valid_id || exit 1; fi; \
	    found="$$found $$name"; break; \
	  done; \
	done; \
	if [ -z "$$found" ]; then echo "error: $(REAL_DATA): found no folder LSP, LSPET, mpii or coco (make real-data REAL_DATA=folder)" >&2; exit 1; fi; \
	echo "data/real:$$found"; \
	echo "train on them:  $(BIN)/dvc exp run -S data.root=data/real"

# PyTorch stays as it is pinned: a new release asks for other drivers and a rebuilt operator, so raise that line by hand.
lock: ## write constraints.txt anew: the newest versions that pyproject.toml allows
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && grep '^torch==' constraints.txt > "$$fresh/torch.txt" && \
	$(PYTHON) -m venv "$$fresh/venv" && "$$fresh/venv/bin/python" -m pip install --quiet --constraint "$$fresh/torch.txt" --editable '.[dev]' && \
	{ sed -n '/^#/p' constraints.txt; "$$fresh/venv/bin/python" -m pip freeze --all --exclude pip --exclude-editable | \
	  sed -E '/^(nvidia-|cuda-|triton)/d; s/\+[a-z0-9.]+$$//'; } > constraints.txt.new && \
	mv constraints.txt.new constraints.txt

clean: ## remove what the stages made (not .venv, DVC's cache, MLflow's store, your own data)
	rm -rf data/synthetic data/prepared data/real build models checkpoints predictions report
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find pose stages tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
