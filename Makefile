# `make demo` shows the embedding principle; `make test` is the gate; `make test-all` adds the long suites;
# `make bench` measures liftscape beside its peers.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Idle OpenMP threads spin by default, which starves the second core.
export OMP_WAIT_POLICY := PASSIVE
test test-all: export OMP_NUM_THREADS := 1
test test-all: export MKL_NUM_THREADS := 1

.PHONY: demo test test-all bench gate wheel clean

demo: $(VENV)/.installed-run
	$(BIN)/liftscape demo --out demo

test: $(VENV)/.installed-test gate
	$(BIN)/python -m pytest -n 2 --quiet
	$(MAKE) --no-print-directory wheel

test-all: $(VENV)/.installed-networks gate
	$(BIN)/python -m pytest -n 2 --quiet -rs -m "long or not long"
	$(MAKE) --no-print-directory wheel

# What others' tools do on the same work; BENCH passes options on, as in: make bench BENCH="--quick"
bench: .venv-bench/.installed
	.venv-bench/bin/python -m benchmarks.run $(BENCH)

gate: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

wheel: $(VENV)/.installed-test
	$(BIN)/python tests/import_built_wheel.py

# The stamp is written last, so an environment that failed half-way is built anew.
$(VENV)/.installed-run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "liftscape needs Python 3.11 or newer; set PYTHON to one, as in: make demo PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv module is missing; install it (on Debian: apt-get install python3-venv) and run make again."; exit 1; }
	rm -f $(VENV)/.installed-test $(VENV)/.installed-networks
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) hatchling editables
	$(PIP) --no-build-isolation --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed-run
	$(PIP) --no-build-isolation --editable ".[test]"
	touch $@

# Networks that others trained, 300 MB with what they need; a test whose network is not to be had says so.
$(VENV)/.installed-networks: $(VENV)/.installed-test tests/networks/requirements.txt
	$(PIP) --no-build-isolation --editable ".[networks]" || echo "transformers is not to be had; tests that need it are skipped"
	@grep -v '^#' tests/networks/requirements.txt | while read -r package; do \
		$(PIP) --no-deps "$$package" || echo "$$package is not to be had; tests that need it are skipped"; \
	done
	touch $@

.venv-bench/.installed: pyproject.toml constraints.txt benchmarks/requirements.txt
	$(PYTHON) -m venv --clear .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt hatchling editables
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-build-isolation --editable .
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement benchmarks/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) .venv-bench build dist demo
