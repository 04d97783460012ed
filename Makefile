# Every target creates the environment that it needs. `make demo` and `make test` need only Python.
PYTHON ?= python3
VERSIONS ?= 3.11 3.12 3.13 3.14 3.14t
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
empty :=
# The shims of pyenv only start the selected version; these paths find all installed versions.
PYENVS := $(subst $(empty) $(empty),:,$(wildcard $(HOME)/.pyenv/versions/*/bin))

# Keep compiled files, even if the machine disables them: else every test that starts Python compiles an SDK.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test attacks check format docs site servers jaeger bench million otel versions peers frameworks release nightly engines model

help:
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
  { echo "spancast needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }

$(READY): pyproject.toml
	@$(CHECK_PYTHON)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[all]' --group dev
	@touch $@

# An environment of its own, which holds only what the demo needs.
DEMO := $(VENV)/demo
DEMO_READY := $(DEMO)/.ready

$(DEMO_READY): pyproject.toml
	@$(CHECK_PYTHON)
	@test -x $(DEMO)/bin/python || $(PYTHON) -m venv $(DEMO)
	@$(DEMO)/bin/python -m pip install --quiet --disable-pip-version-check --editable . openai anthropic openrouter
	@touch $@

demo: $(DEMO_READY) ## trace a support conversation with three SDKs; print its tree (and send it to a running Jaeger); ENGINE=real: with a small real model (200 MB)
ifeq ($(ENGINE),real)
	@llama=$$(servers/build llama) && "$$llama" 0 $(DEMO)/bin/spancast demo --engine '{url}' 2>/dev/null
else
	@$(DEMO)/bin/spancast demo
endif

test: $(READY) ## run all tests with two workers (WORKERS=0: in one process); list the skipped and the ten slowest
	@$(BIN)/python -m pytest -n $(WORKERS) --durations=10 $(ARGS)

attacks: $(READY) ## attack the promises for three quarters of an hour: broken answers, kill -9, corruptions, forks, leaks (or ARGS=kill)
	@$(BIN)/python -m tests.attacks $(ARGS)

check: $(READY) ## check lint, types and layers
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

format: $(READY) ## format the sources
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

docs: $(READY) ## generate the tables of the documentation from the code
	@$(BIN)/python docs/generate.py

# An environment of its own: nothing of it is needed to read the pages.
SITE := $(VENV)/site

site: docs ## build the documentation as a site, in build/site; a broken link fails
	@test -x $(SITE)/bin/mkdocs || $(BIN)/uv venv --quiet --python $(BIN)/python $(SITE)
	@$(BIN)/uv pip install --quiet --python $(SITE)/bin/python 'mkdocs<2' 'mkdocs-material<10'
	@NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --quiet --strict && echo build/site/index.html

servers: ## build Jaeger and the Collector from Go modules, and install Phoenix, MLflow and emulators, once
	@servers/build

jaeger: ## run Jaeger: OTLP on 4317 and 4318, page and API on 16686 (JAEGER_UI: its page, a folder or a release's archive)
	@page=$$(servers/jaeger-page) && server=$$(servers/build jaeger) && JAEGER_UI_FOLDER="$$page" exec "$$server" --config servers/jaeger.yaml

bench: $(READY) ## run the benchmark
	@$(BIN)/python -m benchmarks $(ARGS)

million: $(READY) ## measure the page and the spool with a million spans each (half an hour and 12 GB in /tmp, once; ARGS="--spans 50000")
	@$(BIN)/python -m benchmarks.million $(ARGS)

# The oldest supported one, one between, and the newest: that of the development environment.
OTEL ?= 1.30.0 1.37.0 newest
OTEL_TESTS := pytest pytest-asyncio pytest-xdist hypothesis anyio certifi httpx jsonschema openai anthropic openrouter \
  groq together fireworks-ai cerebras_cloud_sdk writer-sdk huggingface_hub numpy \
  aiohttp boto3 google-genai requests starlette websockets opentelemetry-distro opentelemetry-instrumentation-urllib3
ARGS_OTEL ?= tests/tracing tests/contract/test_every_client.py

otel: $(READY) ## the tests of tracing and the contract suite on three versions of OpenTelemetry (or OTEL=...)
	@for version in $(OTEL); do \
	  python=$(BIN)/python; \
	  if [ $$version != newest ]; then \
	    python=$(VENV)/otel-$$version/bin/python; \
	    test -x $$python || $(BIN)/uv venv --quiet --python $(BIN)/python $(VENV)/otel-$$version || exit 1; \
	    $(BIN)/uv pip install --quiet --python $$python --editable . $(OTEL_TESTS) opentelemetry-sdk==$$version || exit 1; \
	  fi; \
	  echo "== OpenTelemetry $$version"; \
	  $$python -m pytest -q -W default -n $(WORKERS) $(ARGS_OTEL) || exit 1; done

versions: $(READY) ## recording, contract and export suites on each Python of VERSIONS, with newest and oldest SDKs and OpenTelemetry; writes docs/versions.md
	@PATH="$$PATH:$(PYENVS)" OTEL_TESTS="$(OTEL_TESTS)" WORKERS=$(WORKERS) $(BIN)/python -m release.versions $(VERSIONS) $(ARGS); \
	  status=$$?; $(BIN)/python docs/generate.py; exit $$status

release: $(READY) ## build sdist and wheel, check them, install the wheel with each extra in fresh environments and use it
	@PATH="$$PATH:$(PYENVS)" $(BIN)/python -m release $(ARGS)

PEERS := braintrust ddtrace langfuse langsmith litellm logfire mlflow-skinny posthog sentry-sdk weave

peers: $(READY) ## test spancast with each other library that wraps the same calls, in both orders; installs them
	@test -x $(VENV)/peers/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python $(VENV)/peers
	@$(BIN)/uv pip install --quiet --python $(VENV)/peers/bin/python --editable '.[all]' --group dev $(PEERS)
	@SPANCAST_REQUIRE_PEERS=1 PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(VENV)/peers/bin/python -m pytest -q -p pytest_asyncio.plugin \
	  tests/instrumentation/test_other_instrumentations.py $(ARGS)

STEPS ?= engines model attacks otel versions peers bench release

nightly: $(READY) ## what takes hours: attacks in their long form, versions of OpenTelemetry and Python, peers, heavy engines, a real model, the benchmark, the release; all of STEPS run
	@failed=; for step in $(STEPS); do \
	  echo "== make $$step"; \
	  $(MAKE) --no-print-directory $$step || failed="$$failed $$step"; done; \
	  [ -z "$$failed" ] || { echo "== failed:$$failed"; exit 1; }

HEAVY := azurite kafka evidently

engines: $(READY) ## test with the engines that a CI run is spared: Kafka, Evidently and Azure's storage; builds them (needs npm, Java and Maven)
	@servers/build && servers/build $(HEAVY)
	@SPANCAST_REQUIRE_SERVERS=all $(BIN)/python -m pytest -q -n $(WORKERS) tests/e2e tests/destinations

model:
	@$(MAKE) --no-print-directory demo ENGINE=real

# Frameworks with pins that agree share an environment: the first has openai 3, the second openai 2. Both run at once.
FRAMEWORKS_1 := autogen haystack langchain langgraph openai-agents pydantic-ai smolagents
PACKAGES_1 := autogen-agentchat 'autogen-ext[openai]' haystack-ai opentelemetry-haystack langchain langchain-openai \
  langchain-anthropic langgraph openai-agents 'pydantic-ai-slim[openai,anthropic]' 'smolagents[openai]'
FRAMEWORKS_2 := crewai dspy instructor llama-index
PACKAGES_2 := crewai dspy instructor llama-index-core llama-index-llms-openai
FRAMEWORK_TESTS := pytest pytest-asyncio hypothesis certifi httpx openai anthropic openrouter

frameworks: $(READY) ## test spancast below each framework, in conversations, streams and its own tracing; installs them
	@run() { \
	  venv=$(VENV)/frameworks-$$1; names=$$2; shift 2; \
	  test -x $$venv/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python $$venv || return 1; \
	  $(BIN)/uv pip install --quiet --python $$venv/bin/python --editable . $(FRAMEWORK_TESTS) "$$@" || return 1; \
	  echo "== $$names"; \
	  SPANCAST_REQUIRE_FRAMEWORKS="$$names" PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $$venv/bin/python -m pytest -q -W default \
	    -p pytest_asyncio.plugin tests/frameworks $(ARGS); }; \
	log=$$(mktemp); run 1 "$(FRAMEWORKS_1)" $(PACKAGES_1) >$$log 2>&1 & \
	run 2 "$(FRAMEWORKS_2)" $(PACKAGES_2); second=$$?; \
	wait $$!; first=$$?; cat $$log; rm $$log; exit $$((first | second))
