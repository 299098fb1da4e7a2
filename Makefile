# The habits of the project. `make help` lists them.
PYTHON ?= python3
PY := .venv/bin/python
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup format lint types contracts test test-slow test-tables test-distributed setup-slurm setup-mariadb setup-torchrec demo bench lock clean

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## .venv with the pinned dependencies; a second run installs nothing

$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not on the PATH; install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: $$($(PYTHON) --version) is too old; name a newer one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv .venv
	DS_BUILD_OPS=0 $(PY) -m pip install -r requirements.lock
	$(PY) -m pip install --no-deps --no-build-isolation -e .
	@touch $@

format: $(STAMP)  ## rewrite the code in the house format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

lint: $(STAMP)  ## ruff, rules and format
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(STAMP)  ## mypy
	$(PY) -m mypy

contracts: $(STAMP)  ## who may import whom (pyproject.toml, tool.importlinter)
	.venv/bin/lint-imports

test: $(STAMP)  ## the fast tests
	$(PY) -m pytest -m "not slow and not distributed"

test-slow: $(STAMP)  ## servers, kills, long runs; no such test (pytest's code 5) is no failure
	$(PY) -m pytest -m slow || { code=$$?; [ $$code -eq 5 ] || exit $$code; }

test-tables: $(STAMP)  ## of those, the ones of the Spark job: kills, runs at once, the command itself, MariaDB
	$(PY) -m pytest -m slow tests/spark_jobs

setup-slurm:  ## Debian's Slurm and munge, for test-distributed
	@command -v apt-get >/dev/null || { echo "error: no apt-get here; install slurmctld, slurmd, the Slurm client and munge" >&2; exit 1; }
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge

setup-mariadb:  ## Debian's MariaDB server and its Java driver, for test-tables
	@command -v apt-get >/dev/null || { echo "error: no apt-get here; install mariadb-server and libmariadb-java" >&2; exit 1; }
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mariadb-server libmariadb-java

# torchrec's own pins would put back torchmetrics; each release goes with one of torch (1.8 with 2.13)
setup-torchrec: $(STAMP)  ## TorchRec and FBGEMM for the CPU, for model.table=torchrec and its tests
	$(PY) -m pip install --no-deps torchrec==1.8.0 fbgemm-gpu-cpu==1.8.0 pyre-extensions tensordict typing-inspect \
		mypy-extensions importlib_metadata pyvers orjson cloudpickle

test-distributed: $(STAMP)  ## ranks, and the files of slurm/ on a throw-away Slurm (skipped without make setup-slurm)
	$(PY) -m pytest -m distributed -rs

demo: $(STAMP)  ## raw invoices -> tables -> model -> recommendations and outputs/demo/report.html
	$(PY) -m spark_jobs dataset=online_retail \
		&& $(PY) train.py experiment=demo \
		&& $(PY) -m recsys recommend bundle=demo

bench: $(STAMP)  ## the programs in benchmarks/, one after another, but for the closed loop and what another program calls
	@for program in $(filter-out benchmarks/closed_loop.py benchmarks/dial_curve.py benchmarks/next_item_trial.py,$(wildcard benchmarks/[a-z]*.py)); do echo "$$program"; $(PY) $$program || exit 1; done

lock: $(STAMP)  ## requirements.lock from what .venv holds
	{ head -n 1 requirements.lock; \
		$(PY) -m pip freeze --all --exclude-editable --exclude pip --exclude recsys-aurm \
		| sed 's/+cpu$$//'; } > requirements.lock.new && mv requirements.lock.new requirements.lock

clean:  ## remove caches and builds; .venv, tables and models stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache spark-warehouse
	find . -path ./.venv -prune -o -type d -name __pycache__ -print0 | xargs -0 rm -rf
