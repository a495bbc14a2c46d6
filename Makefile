# make run and make test set up everything they need; the environment lives in .venv and comes from requirements.lock alone.
PYTHON ?= python3
BIN := .venv/bin
WHEELS := $(or $(UV_FIND_LINKS),$(PIP_FIND_LINKS),$(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null))
GPU := $(shell command -v nvidia-smi 2>/dev/null)
# Without a GPU a CPU wheel of torch that pip would find locally is used, and xgboost comes without CUDA.
ifeq ($(GPU),)
  LINKS := $(foreach place,$(WHEELS),--find-links $(place))
  XGBOOST := xgboost-cpu
  EXTRA := cpu
else
  LINKS :=
  XGBOOST := xgboost
  EXTRA := gpu
endif
# Ray, 200 MB that one machine needs none of, is locked and left out: make setup RAY=1 brings it, and its tests run.
ifndef RAY
  WITHOUT_RAY := /^(ray|grpcio|msgpack)==/d
endif
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export UV_LINK_MODE := copy

.PHONY: setup run test test-fast test-containers programs lint format docs bench lock lock-check clean

setup: .venv/.ready

.venv/.ready: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Alphaloop needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	sed -E 's/^xgboost-cpu==/$(XGBOOST)==/; $(WITHOUT_RAY)' requirements.lock > .venv/requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode $(LINKS) -r .venv/requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	$(BIN)/python -m compileall -q components feature_repo pipelines serving
	touch $@

run: setup
	$(BIN)/alphaloop run --config pipelines/configs/demo.yaml

test: setup programs
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not containers"

test-fast: setup programs
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not containers and not slow"

programs:
	@.ci/programs

test-containers: setup
	$(BIN)/python -m pytest -m containers

lint: setup lock-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	@$(BIN)/alphaloop settings --markdown | diff docs/configuration.md - >/dev/null || { echo "docs/configuration.md is not what the settings say. Run: make docs"; exit 1; }

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup
	$(BIN)/alphaloop settings --markdown > docs/configuration.md

bench: setup
	$(BIN)/python -m tests.benchmarks

COMPILE = $(BIN)/uv pip compile pyproject.toml --quiet --extra $(EXTRA) --extra server --extra clickhouse --extra ray --extra dev --python-version 3.11 $(foreach place,$(WHEELS),--find-links $(place)) \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links

# What only torch's CUDA build needs is left out, so that one lock serves both builds; torch names those packages itself.
WITHOUT_CUDA := sed -E '/^(nvidia|cuda)-|^triton==/d; s/\+cpu$$//'

lock: setup
	$(COMPILE) --upgrade --output-file .venv/resolved.txt
	$(WITHOUT_CUDA) .venv/resolved.txt > requirements.lock

# The lock must be what pyproject.toml resolves to, with the pins that stand taken as preferences.
lock-check: setup
	cp requirements.lock .venv/resolved.txt
	$(COMPILE) --output-file .venv/resolved.txt
	@$(WITHOUT_CUDA) .venv/resolved.txt | diff requirements.lock - || { echo "requirements.lock does not match pyproject.toml. Run: make lock"; exit 1; }

clean:
	rm -rf .venv runs build *.egg-info
