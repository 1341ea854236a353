# make filter                      filter a small sample corpus, made here
# make filter INPUT=... OUTPUT=... RECIPE=align    filter your own
# make recaption                   caption the sample, by models that are trained on it
# make check test bench

PYTHON ?= python3.11
VENV ?= .venv
RECIPE ?= align
INPUT ?= sample
OUTPUT ?= out/$(notdir $(patsubst %/,%,$(INPUT)))
ARGS ?=

BIN := $(VENV)/bin
CORE := $(VENV)/.core
DEV := $(VENV)/.dev
RECAPTION := $(VENV)/.recaption

.DEFAULT_GOAL := help
.PHONY: help filter recaption check test bench clean

help:
	@sed -n 's/^# //p' Makefile

filter: $(CORE) $(if $(filter sample,$(INPUT)),sample-corpus)
	$(BIN)/python -m pipelines filter --input $(INPUT) --output $(OUTPUT) --recipe $(RECIPE) $(ARGS)

.PHONY: sample-corpus
sample-corpus: $(CORE)
	$(BIN)/python -m pipelines sample --output sample

# What the filter job kept of a clean set stands for captions that people wrote.
recaption: $(RECAPTION)
	$(BIN)/python -m pipelines sample --output sample
	$(BIN)/python -m pipelines sample --output sample-clean --rows 1500 --seed 1 --clean
	$(BIN)/python -m pipelines filter --input sample --output out/recaption \
	  --set images.for_recaption=true
	$(BIN)/python -m pipelines filter --input sample-clean --output out/recaption-clean
	$(BIN)/python -m recaption run --from out/recaption --clean out/recaption-clean $(ARGS)
	$(BIN)/python -m pipelines report --from out/recaption

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(DEV)
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report

bench: $(DEV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m tests.bench $(ARGS)

# The environment: versions are those of constraints.txt, which a user's own install may ignore.
$(CORE): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(RECAPTION): $(CORE)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[recaption]'
	@touch $@

$(DEV): $(CORE)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) sample out
