# Each target makes its own virtual environment (.venv/) and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# More threads in each of two processes only wait for each other.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1
# Programs that start the daemons as the tests do.
SUPPORTED := PYTHONPATH=tests/support $(BIN)/python

.PHONY: demo test quick coverage oldest newest install lint accuracy troubles bench growth peers replay poll chaos test-cluster test-slurm coordinator scaling soak fuzz coexistence fullsize products readers load dashboard screenshots audit clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

install: $(STAMP)

demo: install
	$(BIN)/dsa110-contimg demo --directory demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python tools/count.py

test: lint
	$(ONE_THREAD) $(BIN)/pytest --numprocesses 2 --dist loadgroup

# What needs no processed data: a first answer while working.
quick: install
	$(ONE_THREAD) $(BIN)/pytest --quick --numprocesses 2 --dist loadgroup

# The same with what of the code they reach; compiled kernels do not count.
coverage: install
	$(ONE_THREAD) $(BIN)/pytest --numprocesses 2 --dist loadgroup --cov --cov-report=term

# The quick tests with the oldest versions that pyproject.toml allows, and with the newest there are.
# What old libraries warn of is mended in later ones: it is no error there.
oldest newest:
	$(PYTHON) -m venv $(VENV)/$@
	$(VENV)/$@/bin/python -m pip install --quiet uv
	$(VENV)/$@/bin/uv pip install --quiet --python $(VENV)/$@ --resolution $(if $(filter oldest,$@),lowest-direct,highest) --editable '.[dev]'
	$(ONE_THREAD) $(VENV)/$@/bin/pytest --quick --numprocesses 2 --dist loadgroup $(if $(filter oldest,$@),-W default)

# The README's figures on the independent data set that CONTIMG_REAL_DATA points at.
accuracy: install
	$(BIN)/python benchmarks/accuracy.py

# Instruments that are not ideal, simulated and streamed; TROUBLES names some of the lines.
troubles: install
	$(BIN)/python benchmarks/troubles.py $(TROUBLES) --seeds $(or $(SEEDS),1) $(FULL)

# How fast each step is, beside other programs; needs Debian's wsclean and aoflagger, installs CASA apart.
bench: install
	$(BIN)/python benchmarks/bench.py

# The telescope's real file sets through ingest; needs CONTIMG_REAL_DATA.
replay: install
	$(BIN)/python benchmarks/replay.py

# Both daemons killed 200 times over 201 small tiles, on SQLite and on PostgreSQL; then the server
# killed 20 times over 1,000 small jobs.
chaos: install
	$(SUPPORTED) tests/stress/chaos.py
	$(SUPPORTED) tests/stress/job_chaos.py

# The same on a Dask cluster and PostgreSQL; then with the workers on other hosts as far as the
# network can tell, with disks of their own (needs root and iproute2).
test-cluster: install
	$(SUPPORTED) tests/stress/chaos.py --on cluster hosts

# SLURM's jobs as workers, on a SLURM of this one node; as root, installs Debian's slurm-wlm and munge.
test-slurm: install
	command -v slurmctld munged > /dev/null || { apt-get update && apt-get install -y slurm-wlm munge; }
	$(SUPPORTED) tests/stress/slurm.py

# Claims a second, and what a tile costs the program that hands it out.
coordinator: install
	$(SUPPORTED) benchmarks/coordinator.py

# One worker to a thousand, in virtual time from measured figures; COORDINATOR_MS is what a tile
# costs by `make coordinator`.
scaling: install
	$(SUPPORTED) benchmarks/scaling.py --coordinator-ms $(COORDINATOR_MS)

# Over 1,000 small tiles with housekeeping, after 200 of warm-up.
soak: install
	$(SUPPORTED) tests/stress/soak.py

# Both daemons, the REST server with ten jobs, and the command line on one root.
coexistence: install
	$(SUPPORTED) tests/stress/coexistence.py

# Mosaics beside reproject; photometry and searches.
products: install
	$(BIN)/python benchmarks/products.py

# A look at 20,000 known files.
poll: install
	$(BIN)/python benchmarks/poll.py

# Twelve full-size groups: tiles an hour, and the time from the last sub-band to the mosaic.
fullsize: install
	$(SUPPORTED) benchmarks/fullsize.py

# 2,500 damaged files, each read in a process of its own with limits; then 2,000 random images,
# catalogues and times each, against astropy's own answers.
fuzz: install
	$(SUPPORTED) tests/stress/fuzz.py
	CONTIMG_FUZZ_EXAMPLES=2000 $(ONE_THREAD) $(BIN)/pytest -k fuzzed tests/test_times.py tests/sky tests/imaging

# How each step grows with antennas, channels and image size.
growth: install
	$(BIN)/python benchmarks/growth.py

# Other programs read what this one writes; needs Debian's wsclean, installs CASA and xradio apart.
peers: install
	$(BIN)/python benchmarks/peers.py

# Other programs read the published files; needs Debian's fitsverify, stilts and chromium, and npm.
readers: install
	$(BIN)/python benchmarks/readers.py

# Fifty clients of the REST interface on a year's database, beside a full-size job.
load: install
	$(SUPPORTED) benchmarks/load.py

# How soon the dashboard shows pages and a large mosaic; needs a Chromium.
dashboard: install
	$(SUPPORTED) benchmarks/dashboard.py

# The dashboard's pictures in docs/dashboard, made by its tests.
screenshots: install
	mkdir -p docs/dashboard
	CONTIMG_SCREENSHOTS=docs/dashboard $(BIN)/pytest tests/web -k every_page

# Known faults of the libraries, asked of PyPI's advisory service.
audit:
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet pip-audit
	$(VENV)/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

clean:
	rm -rf $(VENV) demo build dist
