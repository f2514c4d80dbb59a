# `make audit` and `make test` need Python 3.11 or later and nothing else: each makes the environment it runs in.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: audit docs test mutants test-flower test-flower-oldest test-deploy fuzz lint clean

audit: $(VENV)/installed
	$(BIN)/gradwire audit

# A process a core and a thread a process: threads of several processes on one core would wait for each other.
test: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal --durations 30

# One-line faults in the package, each of which a test beside the code must catch: ten minutes.
mutants: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutate

# Property tests on other examples than the suite's, many more of them, and a million byte strings as messages.
fuzz: $(VENV)/installed-test
	HYPOTHESIS_PROFILE=fuzz OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal -m "not slow" -k "$(ONLY)"
	GRADWIRE_FUZZ=1000000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/wire/test_fuzzed_messages.py
	GRADWIRE_FUZZ=20000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto -k "fuzzed and not messages"

# Extras whose own bounds exclude some of constraints.txt's pins have an environment of their own.
test-flower: $(VENV)-flower/installed
	OMP_NUM_THREADS=1 $(VENV)-flower/bin/python -m pytest -m "not deploy" tests/integrations/flower tests/data/test_partition.py

# With the oldest flwr that the extra accepts, which wants another uv.
test-flower-oldest: $(VENV)-flower/installed
	$(VENV)-flower/bin/python -m pip install --quiet --no-deps --upgrade --target $(CURDIR)/$(VENV)-flower/oldest flwr==1.41.0
	PYTHONPATH=$(CURDIR)/$(VENV)-flower/oldest OMP_NUM_THREADS=1 $(VENV)-flower/bin/python -m pytest tests/integrations/flower

# Flower's engines with real processes, TLS and registered keys on loopback: five minutes.
test-deploy: $(VENV)-flower/installed
	OMP_NUM_THREADS=1 $(VENV)-flower/bin/python -m pytest -m deploy tests/integrations/flower

# The site, in build/docs/index.html; a warning is an error.
docs: $(VENV)/installed-docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs
	@echo "docs: build/docs/index.html"

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

$(VENV)-flower/installed: pyproject.toml constraints-flower.txt
	$(PYTHON) -m venv $(VENV)-flower
	$(VENV)-flower/bin/python -m pip install --quiet --constraint constraints-flower.txt \
		--editable '.[flower,partitions]' 'flwr[simulation]' pytest hypothesis
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-flower build src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
