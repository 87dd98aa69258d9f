# Two commands on a fresh machine: make run, make test. Both are safe to repeat.
#
#   make run                                  install, then run the default study to its report
#   make run STUDY=config/studies/lung1.yaml  another study
#   make run CORES=4 ARGS=--dry-run           fewer cores, further options of Snakemake

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
CORES ?= $(shell nproc 2> /dev/null || echo 2)
STUDY ?=
ARGS ?=

BIN := $(VENV)/bin
LIBRARY := PYTHONPATH="$(CURDIR)/workflow/scripts"
SNAKEFILES := Snakefile workflow/Snakefile workflow/rules

# The environment is rebuilt when its pins, its Python or the folder of the project (which its scripts name) change: the
# stamp's name is a hash of them, so that a touched file does nothing and a broken installation leaves no stamp.
HASH := $(shell { cat requirements/lock.txt; $(PYTHON) -VV; pwd; } 2>&1 | cksum | tr -d ' ')
TESTHASH := $(shell cat requirements/test.txt | cksum | tr -d ' ')
INSTALLED := $(VENV)/.run-$(HASH)
TESTS_INSTALLED := $(VENV)/.test-$(HASH)-$(TESTHASH)

.PHONY: install run test test-slow test-slurm lint format families lock dev

install: $(INSTALLED)

$(INSTALLED):
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 13); sys.exit(None if ok else "Polycentric needs Python 3.11 or 3.12, this is " + sys.version.split()[0] + ". Write: make install PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv --clear "$(VENV)"
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check -r requirements/lock.txt
	@touch "$@"

$(TESTS_INSTALLED): $(INSTALLED)
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check -r requirements/test.txt
	@touch "$@"

# After a killed run this clears the lock that it left, if no other Snakemake works here, and makes incomplete files again.
run: install
	$(LIBRARY) "$(BIN)/python" -m polycentric.tools.start --cores $(CORES) $(if $(STUDY),--configfile "$(STUDY)") $(ARGS)

test: $(TESTS_INSTALLED)
	"$(BIN)/python" -m pytest -n $(CORES) --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: $(TESTS_INSTALLED)
	"$(BIN)/python" -m pytest -m "slow and not slurm" $(ARGS)

# On a Slurm of one node that is brought up for it; says why where that cannot be.
test-slurm: $(TESTS_INSTALLED)
	"$(BIN)/python" -m pytest tests/slurm -m "slurm and not slow" -rs $(ARGS)

lint: $(TESTS_INSTALLED)
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/snakefmt" --line-length 120 --check $(SNAKEFILES)
	"$(BIN)/snakemake" --lint
	$(LIBRARY) "$(BIN)/python" -m polycentric.tools.families --check

format: $(TESTS_INSTALLED)
	"$(BIN)/ruff" check --fix .
	"$(BIN)/ruff" format .
	"$(BIN)/snakefmt" --line-length 120 $(SNAKEFILES)

# Requirement files and conda environments of the families, after a change in families.toml.
families: $(INSTALLED)
	$(LIBRARY) "$(BIN)/python" -m polycentric.tools.families

# Pin what is installed: pip install the new or newer package into the environment first.
lock: $(TESTS_INSTALLED)
	$(LIBRARY) "$(BIN)/python" -m polycentric.tools.families --lock

dev: $(TESTS_INSTALLED)
	@echo "Ready. Now: source $(BIN)/activate"
