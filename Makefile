# Every task of this repository. `make` alone lists them.
# Nothing here needs a container engine or a cluster: the tests bring a real Kubernetes with them (tests/cluster).

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Tools that are built once live here, outside the tree, keyed by what they are built from.
export ROLLMODEL_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/rollmodel

DENY_VERSION := 0.20.2
DENY := $(ROLLMODEL_CACHE)/cargo-deny-$(DENY_VERSION)/bin/cargo-deny
MUTANTS_VERSION := 27.1.0
MUTANTS := $(ROLLMODEL_CACHE)/cargo-mutants-$(MUTANTS_VERSION)/bin/cargo-mutants
IMAGE ?= rollmodel:dev
ENGINE ?= docker

.PHONY: help
help: ## List the tasks.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: ## Tell the whole story on a real control plane of its own, then (as root) `make road`; CLUSTER=current: on the cluster that kubectl points at.
ifeq ($(CLUSTER),current)
	@cargo build --quiet --locked --bin rollmodel
	@tests/demo/demo.sh current
else ifeq ($(CLUSTER),)
	@$(MAKE) -j2 tools binaries
	@cargo run --quiet --locked --example cluster -- run tests/demo/demo.sh
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) road; else printf '\nThe second act, a real model on a real node, needs root: sudo make road\n'; fi
else
	@echo "make demo: CLUSTER is '$(CLUSTER)'; leave it out, or write CLUSTER=current" >&2; exit 2
endif

.PHONY: test
test: ## Check everything and run every test, on a real control plane (about 45 minutes on a fresh machine with 2 cores, 13 to 17 the next time).
	@$(MAKE) -j2 tools-and-servers checks
	cargo test --locked

.PHONY: unit
unit: ## Run the tests that need no cluster: a minute or two.
	cargo test --locked --no-fail-fast --lib --bins --test scenarios --test planner

.PHONY: find-histories
find-histories: ## Search random histories of the simulated cluster, and print the shortest story of each violation (HISTORIES=2000 of each theme; THEME=requests: only that; SEED=9: others).
	cargo test --quiet --locked --profile prove --test planner find_histories -- --ignored --nocapture

.PHONY: prove
prove: ## Search small simulated clusters exhaustively, a million states in less than half an hour (WORLD=ports: those of that name).
	cargo test --quiet --locked --profile prove --test planner prove_every_world -- --ignored --nocapture

.PHONY: keep-history
keep-history: ## Keep the last history that was found as the test tests/histories/NAME.yaml.
	@test -n "$(NAME)" || { echo "make keep-history: name it, as in NAME=label-with-a-slash" >&2; exit 2; }
	cp target/histories/last.yaml tests/histories/$(NAME).yaml
	@echo "now write its title, and run: cargo test --test planner every_kept_history"

.PHONY: mutants
mutants: $(MUTANTS) ## Break the deciding part in every small way, and print what no test notices (SHARD=0/4, ONLY=health: a part; runs resume).
	tests/mutants/mutants.py $(MUTANTS)

.PHONY: lint
lint: ## Check formatting, lints, generated files and licences.
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo run --quiet --locked --bin crdgen -- --check
	@$(MAKE) deny

.PHONY: fmt
fmt: ## Format the code.
	cargo fmt

.PHONY: generate
generate: ## Write what is generated: crds/, their copies in the chart, and the chart's list of values.
	cargo run --quiet --locked --bin crdgen
	cp crds/*.yaml charts/rollmodel/files/crds/
	ROLLMODEL_GENERATE=1 cargo test --quiet --locked --test packaging the_charts_readme_lists_every_value

.PHONY: deny
deny: $(DENY) ## Check licences, banned crates and sources with cargo-deny.
	$(DENY) --locked check licenses bans sources

.PHONY: advisories
advisories: $(DENY) ## Check for known vulnerabilities (fetches the advisory database with git; not part of `make test`).
	$(DENY) --locked check advisories

.PHONY: cluster-up
cluster-up: tools ## Start a real control plane with fake nodes, and print the KUBECONFIG to export.
	@cargo run --quiet --locked --example cluster -- up

.PHONY: cluster-down
cluster-down: ## Stop that control plane and remove every process and file of it.
	@cargo run --quiet --locked --example cluster -- down

.PHONY: bench
bench: tools servers ## Measure rollouts against bare Deployments, and fetches against curl and KServe; tables, and target/bench/*.json.
	cargo bench --locked --bench rollouts
	cargo bench --locked --bench fetching

.PHONY: bench-beside
bench-beside: tools ## Measure rollouts beside those of an older commit, in turns (BASE=750aaa7): requests, CPU and time, as ratios.
	tests/bench/beside.py $(or $(BASE),750aaa7)

# Runs a test of tests/e2e on the machine that enter.sh makes of namespaces.
E2E = cargo test --locked --config "target.'cfg(unix)'.runner = 'tests/e2e/enter.sh'" --test e2e -- --ignored --test-threads 1

.PHONY: e2e
e2e: e2e-tools ## Test on a real node: containerd, kubelet, S3, MLflow's models and MLServer; needs root (ROLLMODEL_E2E_KEEP=1 keeps logs).
	@rm -f target/bench/road.txt
	$(E2E) --skip walk
	@cat target/bench/road.txt

.PHONY: road
road: e2e-tools ## Tell the demo's second act: run every command of docs/mlflow.md on a real node, and check what it says; needs root.
	@cargo test --quiet --locked --no-run --test e2e
	@log=$$(mktemp); trap 'rm -f "$$log"' EXIT; ROLLMODEL_TELL=/dev/fd/3 $(E2E) walk 3>&1 >"$$log" 2>&1 || { cat "$$log" >&2; exit 1; }

.PHONY: recording
recording: e2e-tools ## Record the session that README.md shows, docs/road.cast, and draw it; needs root.
	@rm -f docs/road.cast
	ROLLMODEL_RECORD=$(CURDIR)/docs/road.cast $(E2E) walk
	python3 tests/e2e/recording.py docs/road.cast docs/road.svg

.PHONY: image
image: ## Build the operator's image (IMAGE=rollmodel:dev, ENGINE=docker or podman).
	$(ENGINE) build --file deploy/Dockerfile --tag $(IMAGE) .

.PHONY: tools
tools: ## Find or build etcd, Kubernetes, kwok, kubectl and helm, once: about ten minutes on 2 cores.
	@tests/cluster/tools/build.sh >/dev/null

.PHONY: servers
servers: ## Find or install the servers that artifacts are fetched from in tests, once: about five minutes on 2 cores, 0.9 GB.
	@tests/artifacts/tools/build.sh all >/dev/null

.PHONY: clean
clean: ## Remove what was built in the tree; the cache outside it stays.
	cargo clean

# Not for people: what `make test` and `make demo` do beside the building of the tools.
checks: lint
	cargo test --locked --no-run
tools-and-servers: tools
	@$(MAKE) servers
e2e-tools:
	@[ "$$(id -u)" = 0 ] || tests/e2e/enter.sh
	@$(MAKE) tools
	@tests/artifacts/tools/build.sh s3 mlflow debian >/dev/null
	@tests/e2e/tools/build.sh all >/dev/null
binaries:
	@cargo build --locked --bin rollmodel --example cluster

$(DENY):
	@echo "building cargo-deny $(DENY_VERSION) once, into $(ROLLMODEL_CACHE): two or three minutes"
	@cargo install --quiet --locked --debug --root $(ROLLMODEL_CACHE)/cargo-deny-$(DENY_VERSION) cargo-deny --version $(DENY_VERSION)

$(MUTANTS):
	@echo "building cargo-mutants $(MUTANTS_VERSION) once, into $(ROLLMODEL_CACHE): two or three minutes"
	@cargo install --quiet --locked --debug --root $(ROLLMODEL_CACHE)/cargo-mutants-$(MUTANTS_VERSION) cargo-mutants --version $(MUTANTS_VERSION)
