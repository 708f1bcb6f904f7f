# Needs git, make and Python >= 3.11 with venv; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
# Where this is set, nothing is compiled and every import takes twice as long.
unexport PYTHONDONTWRITEBYTECODE
# As pip does, so that uv too gets through a proxy with certificates of its own.
export UV_SYSTEM_CERTS ?= 1

.PHONY: help demo test lint lab widgets bench notebooks clean

help:        ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s%s\n", $$1, $$2 }' Makefile

demo: .venv/.test        ## Run the quickstart notebook on a local workspace
	@.ci/demo

test: .venv/.test        ## Run all tests but the slow ones (.ci/run runs those too)
	@$(BIN)/python -m pytest -q -n auto --dist loadfile -m "not slow" $(ARGS)

lint: .venv/.lint        ## Check style, types and layers
	@.ci/quietly $(BIN)/ruff check .
	@.ci/quietly $(BIN)/ruff format --check .
	@.ci/quietly $(BIN)/mypy
	@.ci/quietly $(BIN)/lint-imports

lab: .venv/.lab        ## Open the notebooks in JupyterLab
	@$(BIN)/jupyter lab notebooks/01_quickstart.ipynb $(ARGS)

widgets: widgets/node_modules/.stamp        ## Check, test and build the views (needs Node 20)
	@cd widgets && npm run --silent check && npm run --silent test && npm run --silent build

bench: .venv/.test        ## Measure load, start, submit, log latency and jobs side by side
	@$(BIN)/python tests/bench $(ARGS)

notebooks: .venv/.test        ## Execute the notebooks and store their outputs
	@$(BIN)/python .ci/execute.py notebooks/*.ipynb

clean:        ## Remove .venv, the demo's workspace and caches
	@if [ -x $(BIN)/aml-local ]; then AML_LOCAL_HOME="$(CURDIR)/.aml-local/demo" $(BIN)/aml-local stop >/dev/null; fi
	@rm -rf .venv .aml-local .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist

# One stamp for each dependency group; -e . is checked again when pyproject.toml changes.
.venv/.%: pyproject.toml | .venv/bin/uv
	@echo "Installing the '$*' dependencies into .venv ..."
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -e . --group $*
	@touch $@

widgets/node_modules/.stamp: widgets/package-lock.json
	@cd widgets && npm ci --silent --no-audit --no-fund
	@touch $@

.venv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "aml-magics needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11")'
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
