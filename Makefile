# proxyd: `make demo` shows it, `make test` tests it. Everything lives in .venv, .demo and bench/results.

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.stamp
SOURCES := proxyd protocols policy demo bench docs tests
# Extra arguments for pytest and for the bench, as in: make test PYTEST_ARGS=tests/policy
PYTEST_ARGS ?=
BENCH_ARGS ?=
# TOUR=1 ends the demo after its tour.
TOUR ?=

# Where it is set, each of the hundreds of daemons that the tests start would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help venv demo test check format bench test-systemd clean

help:
	@echo "make demo          PostgreSQL, SSH, HTTP, the gateway and a guided tour; stays up until Ctrl-C (TOUR=1: ends after it)"
	@echo "make test          the whole test suite"
	@echo "make check         lint, format, types, import contracts"
	@echo "make bench         overhead, compared with direct connections, PgBouncer, ssh -J, nginx and mitmproxy"
	@echo "make test-systemd  the service under a real systemd, in a container (needs root or sudo)"
	@echo "make format        rewrite the sources in the house's format"
	@echo "make clean         remove everything that these made"

venv: $(STAMP)

# Built once, and brought up to date when what it is made of has changed.
$(STAMP): pyproject.toml constraints.txt
	@.ci/venv "$(PYTHON)" "$(VENV)"
	@touch $@

demo: $(STAMP)
	@command -v ssh >/dev/null || .ci/debian --if-possible "the demo's steps over SSH" openssh-client
	@command -v curl >/dev/null || .ci/debian --if-possible "the demo's steps over HTTP" curl
	@exec $(VENV)/bin/python -m demo $(if $(filter-out 0,$(TOUR)),--tour-only)

test: $(STAMP)
	@.ci/debian "the test suite" postgresql-15 postgresql-client-15 openssl systemd \
		openssh-server openssh-client git less rsync tmux vim-tiny xauth nginx-light curl
	@.ci/node .node
	@$(VENV)/bin/pytest $(PYTEST_ARGS)

check: $(STAMP)
	@$(VENV)/bin/ruff check $(SOURCES)
	@$(VENV)/bin/ruff format --check $(SOURCES)
	@$(VENV)/bin/mypy -p proxyd -p protocols -p policy -p demo -p bench
	@$(VENV)/bin/lint-imports

format: $(STAMP)
	@$(VENV)/bin/ruff check --fix $(SOURCES)
	@$(VENV)/bin/ruff format $(SOURCES)

bench: $(STAMP)
	@.ci/debian "the bench" postgresql-15 postgresql-client-15 pgbouncer openssh-server openssh-client \
		nginx-light mitmproxy wrk curl
	@$(VENV)/bin/python -m bench $(BENCH_ARGS)

test-systemd: $(STAMP)
	@.ci/debian "the test under systemd" debootstrap systemd-container openssh-server openssh-client curl
	@$$([ "$$(id -u)" = 0 ] || echo sudo) $(VENV)/bin/pytest tests/systemd $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) .demo .node build dist *.egg-info bench/results
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
