# Everything a newcomer needs is `make demo` and `make test`. Each target makes the environment it needs first; the second
# call starts in seconds. `make TORCH=default ...` on a GPU machine takes torch's default build, which brings CUDA.

PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= cpu
JOBS   ?= 2
IMDB   ?= ../shared/data/imdb

BIN   := $(VENV)/bin
READY := $(VENV)/.ready-$(TORCH)
EXTRAS := $(VENV)/.ready-extras-$(TORCH)
ENGINES := $(VENV)/.ready-engines-$(TORCH)
PEERS  := .venv-peers/.ready-$(TORCH)

# Threads that wait sleep, in whatever is started here; why: tasks/runtime/settings.py, SLEEPING_THREADS.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help attack security-cost demo up down status up-ha down-ha status-ha imdb test test-all check lint format \
	types bench deaths bench-accuracy bench-gpu overhead faults bench-nights gate-simulation gate-imdb clean env cases \
	together lock races neighbours house words doors latest

help: ## say what the targets do
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(READY) ## retrain on the sample reviews, register, promote, score: all of it, on this machine
	$(BIN)/python -m flows demo

up: $(READY) ## the whole service on this machine: Prefect and MLflow with their UIs, object store, workers, schedules
	$(BIN)/python -m deployments.stack.local up

down: $(READY) ## stop all of it; data stays
	$(BIN)/python -m deployments.stack.local down

status: $(READY) ## what runs, and where
	$(BIN)/python -m deployments.stack.local status

up-ha: $(EXTRAS) ## the same as a team runs it: PostgreSQL, Redis, two API servers, passwords everywhere (Debian's packages)
	$(BIN)/python -m deployments.stack.high_availability.service up

down-ha: $(READY) ## stop that
	$(BIN)/python -m deployments.stack.high_availability.service down

status-ha: $(READY) ## what of it runs, and where
	$(BIN)/python -m deployments.stack.high_availability.service status

imdb: $(READY) ## the textbook's 1,000 reviews of IMDb, then 4,000 (IMDB=folder with its Parquet files)
	$(BIN)/python -m flows retrain $(IMDB_FLAGS) --data.split.limit-train-rows 1000 --data.split.validation-fraction 0.3 \
		--training.epochs 3 --training.frozen-layers 3 --training.learning-rate 2e-4
	$(BIN)/python -m flows retrain $(IMDB_FLAGS) --data.split.limit-train-rows 4000 --training.epochs 2

IMDB_FLAGS = --data.source.location $(IMDB) --data.source.label-names NEGATIVE,POSITIVE \
	--data.split.limit-test-rows 2000 --registration.model-name imdb

test: $(READY) ## the tests, in two processes (JOBS=number)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow and not gpu and not network"

test-all: $(EXTRAS) ## the tests and the slow ones
	$(BIN)/python -m pytest -m "not network"

check: $(ENGINES) lint types test ## what CI runs, with every scoring engine

lint: $(READY) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY) ## ruff: mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY) ## pyright, strict
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(EXTRAS) $(PEERS) ## scoring and training beside what people use, in turns, into docs/speed.md (two hours; BENCH_FLAGS=--quick: a try)
	$(BIN)/python -m benchmarks.speed scoring price-list training cold-start --imdb $(IMDB) $(BENCH_FLAGS)
	$(if $(wildcard $(TCMALLOC)),LD_PRELOAD=$(TCMALLOC) $(BIN)/python -m benchmarks.speed training --label tcmalloc --imdb $(IMDB) $(BENCH_FLAGS))
	$(BIN)/python -m benchmarks.speed --write-docs

TCMALLOC = $(firstword $(wildcard /usr/lib/*/libtcmalloc_minimal.so.4 /usr/lib/*/libtcmalloc.so.4))

bench-accuracy: $(EXTRAS) ## accuracy after the same reviews: the textbook, Nightshift, linear models; other rates and schedules (hours; goes on where it was)
	$(BIN)/python -m benchmarks.speed accuracy sweep --imdb $(IMDB) $(BENCH_FLAGS)
	$(BIN)/python -m benchmarks.speed --write-docs

bench-gpu: $(READY) ## scoring and training of core alone on one card (or benchmarks.speed.gpu on a machine with torch and transformers only)
	$(BIN)/python -m benchmarks.speed.gpu $(BENCH_FLAGS)

deaths: $(READY) ## eleven deaths, each for real: what the user sees, and how long it takes to go on (half an hour)
	$(BIN)/python -m benchmarks.deaths

attack: $(EXTRAS) ## nobody comes in: the services attacked as another user and as a web page (as root; BASE=commit: its code)
	$(BIN)/python -m tests.attack $(if $(BASE),--base $(BASE))

security-cost: $(EXTRAS) ## what passwords and certificates cost beside BASE=commit, in turns (a quarter of an hour)
	$(BIN)/python -m benchmarks.security_cost --base $(or $(BASE),72417a1) --parts store up s3
	$(BIN)/python -m benchmarks.security_cost --base $(or $(BASE),72417a1) --parts demo

cases: $(READY) ## hostile files tried from outside: expected, found, seconds, memory (ten minutes; BASE=COMMIT: that beside it)
	$(BIN)/python -m tests.cases $(if $(BASE),--base $(BASE)) $(CASES)

house: $(READY) ## packages, files, imports between them, circles, lines; exit 1 if an aim is missed (BASE=COMMIT: that beside it)
	$(BIN)/python -m benchmarks.house $(if $(BASE),--base $(BASE))

doors: $(READY) ## the changes that people make most, each made in a copy: files touched, and whether it works (five minutes; exit 1 if not)
	$(BIN)/python -m benchmarks.doors $(CHANGES)

words: $(READY) ## question words in docstrings, unclear identifiers, long commit subjects; exit 1 if an aim is missed (BASE=COMMIT)
	$(BIN)/python -m benchmarks.words $(if $(BASE),--base $(BASE))

neighbours: $(READY) ## every architecture of transformers, tiny: no answer depends on the texts beside it (three minutes; writes docs/neighbours.md)
	$(BIN)/python -m tests.neighbours $(ARCHITECTURES)

overhead: $(READY) ## from Run to the first training step, and the service beside the bare training call
	$(BIN)/python -m benchmarks.overhead

bench-nights: $(EXTRAS) ## scoring nights: planning a million objects, memory, S3 to S3 beside the engine alone, sharing (an hour and a half)
	$(BIN)/python -m benchmarks.nights planning
	$(BIN)/python -m benchmarks.nights memory
	$(BIN)/python -m benchmarks.nights speed $(NIGHT_FLAGS)
	$(BIN)/python -m benchmarks.fan_out --seconds 400

together: $(READY) ## two trainings at once, a training beside a scoring run: how much of their speed is left (nine minutes)
	$(BIN)/python -m benchmarks.together

NIGHT_FLAGS = $(if $(wildcard $(IMDB)/test-*.parquet),--reviews $(firstword $(wildcard $(IMDB)/test-*.parquet)) --rows 1500)

faults: $(READY) ## two hundred SIGKILLs and more, a broken network, a killed store: rows lost, doubled, mixed
	$(BIN)/python -m benchmarks.faults.run

races: $(READY) ## a promotion and a scoring run held before each of their requests while others go through (BASE=commit: its code, if it has these packages)
	$(BIN)/python -m benchmarks.races.run --minutes 9 $(if $(BASE),--base $(BASE))

gate-simulation: $(READY) ## pairs of models of known quality through the gate: how often it lets each through (ten minutes)
	$(BIN)/python -m benchmarks.gate.simulation

gate-imdb: $(READY) ## two real models and four bad ones on IMDb through the gate (IMDB=folder with its Parquet files; three quarters of an hour)
	$(BIN)/python -m benchmarks.gate.imdb --imdb $(IMDB)

clean: ## remove the environment and what tools left; data and models in .nightshift stay
	rm -rf $(VENV) .venv-peers .venv-latest build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find benchmarks deployments flows tasks tests -name __pycache__ -type d -exec rm -rf {} +

env: $(READY)

lock: $(READY) ## the lock files with hashes anew, from pyproject.toml and constraints.txt (asks the package index)
	$(LOCKED) -r deployments/locks/uv.txt
	$(BIN)/python -m deployments.lock

latest: ## the tests on the newest release of every dependency, in .venv-latest: what differs, and what fails
	$(MAKE) VENV=.venv-latest .venv-latest/.ready-engines-$(TORCH)
	$(LOCKED:$(BIN)/%=.venv-latest/bin/%) -r deployments/locks/uv.txt
	.venv-latest/bin/python -m deployments.latest -n $(JOBS) --dist loadfile -m "not slow and not gpu and not network"

# What has no hash in the lock is not installed.
LOCKED = $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-deps --require-hashes

$(READY): pyproject.toml deployments/install.sh deployments/install-locked.sh $(wildcard deployments/locks/*.txt)
	PYTHON="$(PYTHON)" VENV="$(VENV)" TORCH="$(TORCH)" sh deployments/install.sh
	rm -f $(VENV)/.ready-*
	touch $@

$(PEERS): deployments/install-peers.sh deployments/install-locked.sh $(wildcard deployments/locks/*.txt)
	PYTHON="$(PYTHON)" VENV=.venv-peers TORCH="$(TORCH)" sh deployments/install-peers.sh
	touch $@

$(ENGINES): $(READY)
	$(LOCKED) -r deployments/locks/engines.txt
	touch $@

$(EXTRAS): $(READY)
	$(LOCKED) -r deployments/locks/engines.txt -r deployments/locks/extras.txt
	touch $@
