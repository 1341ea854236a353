# make filter                      filter a small sample corpus, made here
# make filter INPUT=... OUTPUT=... RECIPE=align    filter your own
# make report FROM=out/sample      write a run's report again, and that of its captions
# make flink-up, make flink-down   a Flink cluster on this machine
# make filter RUNNER=flink ...     filter on it
# make download INPUT=... OUTPUT=...    fetch the images of a list of URLs into shards
# make recaption                   caption the sample, by models that are trained on it
# make recaption INPUT=... CLEAN=... OUTPUT=... RECIPE=blip-base    caption your own
# make train                       train a dual encoder on the sample, and evaluate it
# make train DATA=... RUN=... RECIPE=vit-b16    train on your own
# make evidence                    test what recaptioning is worth, from end to end
# make evidence ARGS="--images ..."    on the pictures of a labelled folder
# make simulate                    put the theory of synthetic captions to the test
# make images                      build the images, or try their install steps where Docker is not
# make dataflow-template IMAGE=europe-docker.pkg.dev/PROJECT/REPOSITORY/altmill:0.1.0
# make sbom                        out/sbom.json: all that is installed here
# make check test test-flink bench

PYTHON ?= python3.11
VENV ?= .venv
RECIPE ?= align
INPUT ?= sample
CLEAN ?= sample-clean
OUTPUT ?= out/$(notdir $(patsubst %/,%,$(INPUT)))
DATA ?=
RUN ?= runs/$(notdir $(patsubst %/,%,$(or $(DATA),$(INPUT))))
FROM ?= $(OUTPUT)
ARGS ?=
RUNNER ?=
SDK ?=
IMAGE ?= localhost/altmill:0.1.0

BIN := $(VENV)/bin
CORE := $(VENV)/.core
DEV := $(VENV)/.dev
RECAPTION := $(VENV)/.recaption
TRAIN := $(VENV)/.train
CLUSTER := ALTMILL_PYTHON=$(abspath $(BIN))/python docker/flink/cluster
BUILD := docker build --file docker/Dockerfile
HAS_DOCKER := docker info >/dev/null 2>&1

.DEFAULT_GOAL := help
.PHONY: help filter flink-up flink-down report download recaption train evidence simulate images dataflow-template sbom check test test-flink bench clean

help:
	@sed -n 's/^# //p' Makefile

filter: $(CORE) $(if $(filter sample,$(INPUT)),sample-corpus)
	$(BIN)/python -m pipelines filter --input $(INPUT) --output $(OUTPUT) --recipe $(RECIPE) $(ARGS) \
	  $(if $(RUNNER),-- $(shell $(CLUSTER) options $(SDK)))

flink-up: $(CORE)
	$(CLUSTER) up $(SDK)

flink-down:
	$(CLUSTER) down

report: $(CORE)
	$(BIN)/python -m pipelines report --from $(FROM)

.PHONY: sample-corpus
sample-corpus: $(CORE)
	$(BIN)/python -m pipelines sample --output sample

download: $(CORE)
	$(BIN)/python -m pipelines download --input $(INPUT) --output $(OUTPUT) $(ARGS)

# What the filter job kept of a clean set stands for captions that people wrote.
recaption: $(RECAPTION) $(if $(filter sample,$(INPUT)),sample-corpus sample-clean-corpus)
	$(BIN)/python -m pipelines filter --input $(INPUT) --output $(OUTPUT)-recaption \
	  --set images.for_recaption=true
	$(BIN)/python -m pipelines filter --input $(CLEAN) --output $(OUTPUT)-clean
	$(BIN)/python -m recaption run --from $(OUTPUT)-recaption --clean $(OUTPUT)-clean \
	  --recipe $(if $(filter file,$(origin RECIPE)),small,$(RECIPE)) $(ARGS)
	$(BIN)/python -m pipelines report --from $(OUTPUT)-recaption

.PHONY: sample-clean-corpus
sample-clean-corpus: $(CORE)
	$(BIN)/python -m pipelines sample --output sample-clean --rows 4000 --seed 1 --clean

# The sample's own pictures of a third seed stand for a test set: no model has seen them.
train: $(TRAIN) $(if $(DATA),,recaption sample-test-corpus)
	$(BIN)/python -m train run $(if $(filter file,$(origin RECIPE)),small,$(RECIPE)) \
	  --data $(or $(DATA),$(OUTPUT)-recaption) --out $(RUN) $(if $(DATA),$(ARGS))
ifeq ($(DATA),)
	$(BIN)/python -m train evaluate $(RUN) --on retrieval:sample-test \
	  --on zero-shot:sample-test,label=shape,templates=simple \
	  --on zero-shot:sample-test,label=colour,templates=simple \
	  --on zero-shot:sample-test,label=colour+shape,templates=simple
endif

.PHONY: sample-test-corpus
sample-test-corpus: $(CORE)
	$(BIN)/python -m pipelines sample --output sample-test --rows 600 --seed 2 --clean

evidence: $(TRAIN)
	$(BIN)/python -m train evidence --out out/evidence $(ARGS)

simulate: $(TRAIN)
	$(BIN)/python -m train simulate --out out/simulation $(ARGS)

images: $(CORE)
	@if $(HAS_DOCKER); then \
	  $(BUILD) --target worker --tag $(IMAGE)-worker . && \
	  $(BUILD) --target trainer --tag $(IMAGE)-trainer .; \
	else \
	  echo "No Docker engine here: no image is built, and their install steps are tried."; \
	  $(BIN)/python -m tests.docker worker; \
	fi

dataflow-template: $(CORE)
	$(BIN)/python -m pipelines template --image $(IMAGE) --output out/dataflow
	@if $(HAS_DOCKER); then \
	  $(BUILD) --target dataflow --tag $(IMAGE) . && \
	  $(BUILD) --target dataflow --tag $(IMAGE)-gpu --build-arg JOB=recaption \
	    --build-arg EXTRAS=dataflow,recaption . && \
	  echo "docker push $(IMAGE), and $(IMAGE)-gpu, then copy the templates to a bucket."; \
	else \
	  echo "No Docker engine here: the templates are written, and their images were NOT built."; \
	fi

sbom: $(CORE)
	$(PYTHON) -m venv $(VENV)/sbom
	$(VENV)/sbom/bin/pip install --quiet --constraint constraints.txt cyclonedx-bom
	mkdir -p out
	$(VENV)/sbom/bin/cyclonedx-py environment $(BIN)/python --output-file out/sbom.json

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/Dockerfile

test: $(DEV)
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report

test-flink: $(DEV)
	$(BIN)/pytest -m flink tests/pipelines/test_flink.py

bench: $(DEV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench,recaption,train]'
	$(BIN)/python -m tests.bench $(ARGS)

# The environment: versions are those of constraints.txt, which a user's own install may ignore.
$(CORE): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(RECAPTION): $(CORE)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[recaption]'
	@touch $@

$(TRAIN): $(CORE)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[train]'
	@touch $@

$(DEV): $(CORE)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .flink sample sample-clean sample-test out
