# `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash

BIN := .venv/bin
TYPES := $(shell find images/types -name '*.pxd')
KERNEL_SOURCES := pyproject.toml images/compile.py $(wildcard app/kernel/*.pyx app/kernel/*.pxi app/kernel/*.h) \
	$(TYPES) $(TYPES:images/types/%.pxd=%.py)
PYTEST := $(BIN)/python -m pytest
# True if `docker compose` reaches a Docker engine.
ENGINE_ANSWERS = timeout 10 docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1
# True if containers exist, running or not; otherwise the processes and the store are the host's.
IN_CONTAINERS = $(ENGINE_ANSWERS) && docker compose ps -aq order_manager | grep -q .

# Compose only says which container is "unhealthy": the reasons with which processes have stopped.
WHY_NOT = docker compose logs --no-color --no-log-prefix --tail 100 \
	| sed -En 's/^[^ ]+ ERROR (.* stopped exit_code=.*)/up: \1/p' | sort -u

.PHONY: help setup up up-cluster down-cluster test-cluster demo down logs stat crash compare strategy-watch sweep-cluster test test-fast test-plain test-slow lint \
	format engine base-image images pin sbom audit \
	bench bench-quick chaos chaos-host pictures backup restore data lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

setup: .venv/kernel.stamp ## Make .venv from the lock file and compile, as far as they changed
	@images/venv.sh strategy

.venv/packages.stamp: requirements.lock
	@images/venv.sh packages
	@touch $@

.venv/kernel.stamp: .venv/packages.stamp $(KERNEL_SOURCES)
	@images/venv.sh kernel

up: ## Run the stack: in containers if a Docker engine answers, else on this host
	@if $(ENGINE_ANSWERS); then \
		$(MAKE) --no-print-directory images || exit; \
		docker compose up -d --wait || { $(WHY_NOT); exit 1; }; \
		echo "up: the stack is ready; make logs follows its logs, make down stops it"; \
	else \
		echo "up: no Docker engine answers; running on this host (Ctrl-C stops it)"; \
		$(MAKE) --no-print-directory setup && exec $(BIN)/python -m app run; \
	fi

# A pace that people can follow: about one order a second.
demo: export CHAOS = true
demo: export PACE ?= 50/s
demo: up ## The same with faults on request, at 50 ticks/s: python -m app chaos kill strategy

up-cluster: ## Run three brokers and two shards in containers: SHARDS="a b" (images/cluster/README.md)
	@$(MAKE) --no-print-directory images && images/cluster/cluster.sh build && images/cluster/cluster.sh up

down-cluster: ## Stop and remove them; the volumes stay
	@images/cluster/cluster.sh down

test-cluster: setup ## All tests of bus and portfolio, slow ones and those in containers included
	$(PYTEST) -m "not bench" tests/app/bus tests/app/portfolio

down: ## Stop and remove the containers; reports and orders stay in the volume "output"
	docker compose down

logs: ## Follow the containers' logs
	docker compose logs -f

stat: ## Show live what every process is doing
	@if $(IN_CONTAINERS); then docker compose exec strategy python3 -m app stat; \
	else $(BIN)/python -m app stat; fi

crash: ## Crash SERVICE=order_manager with FAULT=kill, freeze or cut; check its recovery
	@if $(IN_CONTAINERS); then images/crash.sh "$(SERVICE)" "$(or $(FAULT),kill)"; \
	else $(BIN)/python -m app crash "$(SERVICE)" --fault "$(or $(FAULT),kill)"; fi

compare: ## Compare the orders of the run so far with a backtest
	@if $(IN_CONTAINERS); then docker compose run --rm --no-deps -T check compare; \
	else $(BIN)/python -m app compare; fi

strategy-watch: setup ## Run a backtest on every save: STRATEGY=file.py:Class STRATEGY_PARAMS=... DATA_PATH=...
	@exec $(BIN)/python -m app watch

sweep-cluster: images ## A sweep on a Dask cluster of containers: SWEEP="--param short=5:20:5 --param long=20,50"
	@images/dask/sweep.sh $(or $(SWEEP),--param short=2:11 --param long=20:210:10)

images: ## Build the images, and a base image first if no registry answers
	@images/base_image.sh --if-needed
	@images/build.sh

# In four parts: what runs beside others does (more workers than cores, since tests wait for sockets and
# timers); what measures, or starts whole stacks of containers, does not.
test: setup test-fast ## All tests but the slow ones; container tests only if an engine answers
	$(PYTEST) -n $$(($$(nproc) * 3 / 2)) --dist worksteal -m "medium and not slow and not bench and not container" --ignore=tests/attacks
	$(PYTEST) -m "not slow and not bench" tests/attacks
	$(PYTEST) -m "container and not slow and not bench"

test-slow: setup ## Soaks, long fault runs, every attack; `make test` has shorter versions
	$(PYTEST) -m "slow and not bench"

test-fast: setup ## Unit and property tests on all cores, within a minute
	$(PYTEST) -n $$(($$(nproc) * 3 / 2)) --dist worksteal -m "not bench and not slow and not medium and not container"

# On a copy of the tracked files in which nothing is compiled.  Of the tests of processes, those that
# cross the kernel: all of them pass, but not within minutes.
PLAIN_MEDIUM := $(addprefix tests/,app/kernel app/orderbook app/runtime/trace end_to_end/host/test_without_compiler.py)
test-plain: setup ## The same without compiled modules, then tests of processes on this host
	@rm -rf build/plain && mkdir -p build/plain && ln -s ../../.venv build/plain/.venv
	@git ls-files -z | tar --null --files-from=- --ignore-failed-read -cf - | tar -xf - -C build/plain
	cd build/plain && $(PYTEST) -n $$(($$(nproc) * 3 / 2)) --dist worksteal -m "not bench and not slow and not medium and not container"
	cd build/plain && $(PYTEST) -n $$(($$(nproc) * 3 / 2)) --dist worksteal -m "medium and not bench and not slow and not container" $(PLAIN_MEDIUM)

lint: setup ## Run ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## Format and fix with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

engine: ## Install and start a Docker engine and Compose if they are missing (Debian, as root)
	@images/engine.sh

base-image: ## Build a Python base image from Debian packages and use it for the images
	@images/base_image.sh

pin: ## Pin PYTHON_IMAGE in .env to the digest that its tag has in the registry now
	@images/supply_chain/pin.sh

# Images that only make up-cluster and make sweep-cluster build: as far as they are there.
sbom: ## Write an SBOM (CycloneDX) of each image to build/sbom
	@bin=$$(images/supply_chain/tools.sh) && mkdir -p build/sbom \
	&& { printf 'trading-%s\n' shm gateway orderbook strategy order-manager dashboard; \
		for image in trading-sweep trading-shard trading-portfolio trading-broker; do \
			! docker image inspect $$image >/dev/null 2>&1 || echo $$image; done; } \
	| xargs -P "$$(nproc)" -I IMAGE "$$bin/python" images/supply_chain/sbom.py IMAGE build/sbom/IMAGE.cdx.json

audit: ## Audit the locked packages for known vulnerabilities; AUDIT_OFFLINE_OK=1: 0 if no advisories
	@bin=$$(images/supply_chain/tools.sh) && "$$bin/python" images/supply_chain/audit.py

bench: setup ## All benchmarks (25 minutes), or PART=orders; python -m tests.bench --list has the parts
	@$(if $(PART),$(if $(filter backtest%,$(PART)),,:)) tests/bench/peers/backtests/install.sh
	$(BIN)/python -m tests.bench $(addprefix --part ,$(PART))

bench-quick: setup ## The essential benchmarks (under a minute)
	$(BIN)/python -m tests.bench --quick

pictures: setup ## Make the pictures of README.md again, from the page of a real run (needs chromium)
	$(BIN)/python -m tests.end_to_end.dashboard.pictures

backup: ## Copy the order store, in use or not, to BACKUP=file
	@test -n "$(BACKUP)" || { echo "usage: make backup BACKUP=orders-monday.sqlite3"; exit 2; }
	@test ! -e "$(BACKUP)" || { echo "backup: $(BACKUP) exists; choose another name"; exit 2; }
	@if $(IN_CONTAINERS); then from=containers; \
		if docker compose ps -q order_manager | grep -q .; then run="exec -T"; else run="run --rm -T"; fi; \
		docker compose $$run order_manager python3 -m app store backup - >"$(BACKUP).partial"; \
	else from=host; $(BIN)/python -m app store backup "$(BACKUP).partial"; fi \
	&& mv "$(BACKUP).partial" "$(BACKUP)" && echo "backup: $(BACKUP), the store of the $$from" \
	|| { rm -f "$(BACKUP).partial"; exit 1; }

restore: ## Replace the order store with BACKUP=file; the replaced file is kept
	@test -f "$(BACKUP)" || { echo "restore: no file \"$(BACKUP)\"; make restore BACKUP=orders-monday.sqlite3"; exit 2; }
	@if $(IN_CONTAINERS); then \
		docker compose stop strategy order_manager \
		&& docker compose run --rm -T order_manager python3 -m app store restore - <"$(BACKUP)" \
		&& docker compose start order_manager strategy; \
	else $(BIN)/python -m app store restore "$(BACKUP)"; fi

chaos: setup images ## Faults in containers, compared with the backtest: RUNS=100 SEED=1 EXAMPLES=1 (35 minutes)
	$(BIN)/python -m tests.chaos.run_containers --runs $(or $(RUNS),100) --seed $(or $(SEED),1) $(if $(EXAMPLES),--examples)

chaos-host: setup ## The same on host processes: RUNS=300 SEED=1 (50 minutes)
	$(BIN)/python -m tests.chaos.run_host --runs $(or $(RUNS),300) --seed $(or $(SEED),1)

data: setup ## Generate data/market_data.csv again
	$(BIN)/python data/make_market_data.py > data/market_data.csv.new
	mv data/market_data.csv.new data/market_data.csv

lock: ## Resolve pyproject.toml into the lock files; UPGRADE=1: newest versions
	@python=$$(images/find_python.sh) && "$$python" -m venv .venv/lock \
		&& .venv/lock/bin/python -m pip install -q --disable-pip-version-check uv==0.13.9 \
		&& images/lock.sh .venv/lock/bin/uv

clean: ## Remove .venv, what is compiled, caches and run output
	find app -name '*.so' -delete
	rm -rf .venv build app/kernel/_kernel.c data/out .pytest_cache .mypy_cache .ruff_cache \
		.hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
