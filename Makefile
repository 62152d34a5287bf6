# Everything is in .venv: the pinned packages, and this project in place.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# How many files of tests run at once, each on a broker and a database of its own; most of the time they wait.
JOBS ?= 2
STAMP := $(VENV)/installed
BENCH := .venv-bench
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help run test bench soak coverage lint format pins clean

help:  ## show this list
	@awk -F ':.*  ## ' '/^[a-z]+:.*  ## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

run: $(STAMP)  ## start broker, database, ingest and worker on this machine, until Ctrl-C
	@$(BIN)/python -m devstack.install
	@$(BIN)/python -m devstack

test: $(STAMP) $(BIN)/promtool  ## run all tests against a real broker and database; some of them with ARGS="tests/unit -k batch"
	@$(BIN)/python -m devstack.install --browser
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

bench: $(BENCH)/installed  ## measure beside limits and peers; some parts with ARGS="taking --rounds 1"
	@$(BENCH)/bin/python -m devstack.install
	$(BENCH)/bin/python -m bench $(ARGS)

coverage: $(STAMP) $(BIN)/promtool  ## run all tests and show which lines and branches they miss
	@$(BIN)/python -m devstack.install --browser
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

soak: $(STAMP)  ## kill for hours, in slices that can be run on different days; some with ARGS="--only worker --slices 1"
	@$(BIN)/python -m devstack.install
	$(BIN)/python -m tests.faults.soak $(ARGS)

lint: $(STAMP)  ## check style, types, imports between packages, what is deployed, and the pins
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
	$(BIN)/kubernetes-validate --strict --quiet $(filter-out %/kustomization.yaml,$(wildcard deploy/kubernetes/*.yaml))
	$(BIN)/uv pip check --quiet --python $(BIN)/python
	$(BIN)/uv pip install --quiet --dry-run --no-index --python $(BIN)/python -r pyproject.toml --all-extras --group dev

format: $(STAMP)  ## put the code in the house style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The product's pins are resolved under those of the tests, so that tests see what the product runs with.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --all-extras pyproject.toml
pins: $(STAMP)  ## bring the pins up to pyproject.toml; also to the newest versions with ARGS=--upgrade
	$(COMPILE) --group dev $(ARGS) --output-file requirements-dev.txt
	$(COMPILE) --constraint requirements-dev.txt $(ARGS) --output-file requirements.txt
	$(COMPILE) --group bench --constraint requirements-dev.txt $(ARGS) --output-file requirements-bench.txt

clean:  ## remove all that make made
	rm -rf $(VENV) $(BENCH) bench/peers/node/node_modules examples/node_modules dist .*_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -prune -exec rm -rf {} +

# --no-deps: what the pins forget stays missing, which lint finds, and does not come in at any version.
$(STAMP): pyproject.toml requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "This needs Python 3.11 or later. Name one: make PYTHON=python3.x" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { $(INSTALL_ENSUREPIP); }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Prometheus' own judge of alert rules, from Debian's package: unpacked, for when installed it starts a server. Where
# there is no apt, its tests are skipped, unless CI is set.
PACKAGE = apt-get -q download prometheus
$(BIN)/promtool: | $(STAMP)
	cd $(VENV) && { $(PACKAGE) || { $(SUDO) apt-get -q update && $(PACKAGE); } } >/dev/null 2>&1 \
	    && dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x --strip-components=3 -C bin ./usr/bin/promtool || true
	rm -f $(VENV)/prometheus_*.deb

# The peers have an environment of their own: the product is tested without what they bring. Node's is left out where
# there is no npm.
$(BENCH)/installed: $(STAMP) requirements-bench.txt bench/peers/node/package.json
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/pip install --quiet --disable-pip-version-check --no-deps -r requirements-bench.txt
	$(BENCH)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	command -v npm >/dev/null && npm install --silent --no-package-lock --prefix bench/peers/node || true
	@touch $@

# Debian and Ubuntu keep ensurepip in a package of its own.
ENSUREPIP = $$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
INSTALL_ENSUREPIP = echo "$(PYTHON) cannot make virtual environments; installing $(ENSUREPIP)" \
	&& $(SUDO) apt-get update -q && $(SUDO) apt-get install -qy $(ENSUREPIP) \
	|| { echo "Install the package $(ENSUREPIP), then try again." >&2; exit 1; }
