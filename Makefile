# Two commands do everything, set-up included: `make quickstart` and `make test`.
# PYTHON is the interpreter (3.11 or 3.12) that .venv is made from.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# pytest's workers: one a core, of at most eight, since each trains the fixtures that its tests need; and so
# torch has one thread in each: more of them wait for each other.
SIDE_BY_SIDE := -n logical --maxprocesses 8

.PHONY: quickstart test test-slow test-elsewhere lint benchmarks clean

quickstart: $(INSTALLED)
	PATH="$(CURDIR)/$(BIN):$$PATH" sh experiments/quickstart/run.sh

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" $(SIDE_BY_SIDE)

test-slow: lint
	$(BIN)/pytest -m slow

# Hours on two cores: as other processors, other seeds and a busy machine would run the tests.
test-elsewhere: lint
	$(BIN)/python -m tests.elsewhere $(SIDE_BY_SIDE)

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry .
	$(BIN)/python -m search_spaces --check
	$(BIN)/python -m docs.generate --check
	$(BIN)/python -m benchmarks.evidence page --check

# Half an hour on two cores that do nothing else; `$(BIN)/python -m benchmarks --only ap` runs one.
benchmarks: $(INSTALLED)
	$(BIN)/python -m benchmarks

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
		{ echo "Python 3.11 or 3.12 is needed; name one: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -r requirements.txt
	$(BIN)/pip install --quiet --no-deps -e .
	$(BIN)/detnas doctor --close-nni
	touch $@

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache .import_linter_cache *.egg-info
