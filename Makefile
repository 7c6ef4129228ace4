# `make demo`, `make demo-dcs` and `make test`. Everything lives in .venv and .demo.
PYTHON ?= python3
PROCESSES ?= 2
VENV := .venv
BIN := $(VENV)/bin
JOB := jobs/quickstart/prune_then_distill.yaml
DCS := jobs/quickstart/self_correction.yaml

.PHONY: demo demo-dcs test faults cluster-test lint setup fetch clean

demo: fetch
	$(BIN)/espalier plan $(JOB)
	$(BIN)/espalier run $(JOB)
	@echo "the page to look at: .demo/runs/smollm2-slim/report.html"

demo-dcs: setup
	$(BIN)/python jobs/quickstart/fetch_reviews.py
	$(BIN)/espalier run $(DCS)
	@echo "the page to look at: .demo/runs/reviews-corrected/report.html"

# In two processes: many files use one core alone. `make test PROCESSES=0` is one process.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not gpu and not slow" -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

# Long: what the everyday suite leaves out, every fault of the matrix, then runs killed at points drawn by seed.
faults: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/matrix.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/kills.py

# Several hosts as namespaces of this machine. Needs root and iproute2; says so and does nothing where they are missing.
cluster-test: setup
	OMP_NUM_THREADS=1 $(BIN)/python tests/hosts/cluster_test.py

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

fetch: setup
	$(BIN)/python jobs/quickstart/fetch.py

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("espalier needs Python 3.11 or newer; set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt torch setuptools wheel
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[quickstart,test]'
	touch $@

clean:
	rm -rf .venv .demo
