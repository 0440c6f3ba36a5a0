## Seedbed: trains families of small NumPy networks and keeps every run in MLflow.
##
## make TARGET [NAME=value ...]. The first target you run makes .venv; after that each starts at once.
##

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# `make -j2 clean test` must not delete what the test is using; nothing here would gain from running side by side.
.NOTPARALLEL:
.PHONY: help setup test check sweep plan compare report reproduce ui server published findings predict bench lock clean

EXPERIMENT ?= architectures
# As the user typed them: make would otherwise take the $ of an interpolation for its own.
args = $(value ARGS)
seedbed = .venv/bin/seedbed
python = .venv/bin/python

ifdef TRACKING_URI
export MLFLOW_TRACKING_URI := $(value TRACKING_URI)
endif
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## print this help
	@awk '/^##/ { sub(/^## ?/, ""); print } \
	  /^[a-z]+:.*## / { split($$0, part, /:.*## /); printf "  %-10s %s\n", part[1], part[2] }' $(firstword $(MAKEFILE_LIST))

setup: .venv/.ready ## make .venv from requirements.lock; EXTRAS=dask,bench adds optional parts
ifdef EXTRAS
	@$(python) -c '$(check_extras)' '$(EXTRAS)'
	@sed -n 's/^\([^ ].*\) \\$$/\1/p' requirements.lock > .venv/constraints.txt
	$(python) -m pip install -qq --no-build-isolation --constraint .venv/constraints.txt --editable '.[$(EXTRAS)]'
else
	@echo ".venv is ready; the command is $(seedbed)"
endif

test: .venv/.ready ## run the fast tests; ARGS goes to pytest
	$(python) -m pytest -n auto $(args)

check: .venv/.ready ## lint, check format and types, and that the lock satisfies pyproject.toml
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	$(python) -m pip check
	$(python) -m pytest -q tests/test_packaging.py -k lock

sweep: .venv/.ready ## train the runs of EXPERIMENT=architectures; ARGS are overrides
	$(seedbed) sweep experiment=$(EXPERIMENT) $(args)

plan: .venv/.ready ## say what `make sweep` would do with the same EXPERIMENT and ARGS: runs, time, disk
	$(seedbed) plan experiment=$(EXPERIMENT) $(args)

compare: .venv/.ready ## say which cell of the latest sweep is best, and whether it is only the seed; ARGS choose another
	$(seedbed) compare $(args)

report: .venv/.ready ## write the latest sweep's report to report.html; ARGS choose another sweep or file
	$(seedbed) report $(args)

reproduce: .venv/.ready ## train runs of the latest sweep again and compare every bit; ARGS="--all", or choose others
	$(seedbed) reproduce $(args)

ui: .venv/.ready ## look at the runs in MLflow
	$(seedbed) ui $(args)

server: .venv/.ready ## run an MLflow server on PostgreSQL here, for several machines (docs/SERVER.md)
	$(seedbed) server $(args)

published: .venv/.ready ## compare every figure that the tutorials print with ours
	$(seedbed) published $(args)

findings: .venv/.ready ## answer the tutorials' questions anew, and say whether the answers still hold; ARGS name some
	$(seedbed) findings $(args)

predict: .venv/.ready ## predict with a trained run: ARGS="experiment=happiness --input rows.csv"
	$(seedbed) predict $(args)

bench: .venv/.ready ## time Seedbed beside other libraries (EXTRAS=bench of setup); ARGS="--quick" or --long
	$(python) -m benchmarks $(args)

lock: ## write requirements.lock anew from pyproject.toml; ARGS=--upgrade takes newer versions
	@$(find_python); folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	"$$found" -m venv "$$folder" && "$$folder/bin/python" -m pip install -qq uv && \
	"$$folder/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --no-emit-find-links --no-annotate --group dev $(args) \
	  --output-file requirements.lock pyproject.toml

# Not *.db, *-artifacts, seedbed-server, outputs, multirun, mlruns: results stay.
clean: ## remove .venv, caches and build outputs; never a store of runs
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find pipeline benchmarks tests -name __pycache__ -prune -exec rm -rf {} +

##
## Examples:
##   make sweep EXPERIMENT=exam ARGS="'seed=range(0,50)'"
##   make sweep TRACKING_URI=sqlite:///other.db    (or MLFLOW_TRACKING_URI in the environment)
##   make setup PYTHON=python3.12                  (a Python of your choice, 3.11 to 3.13; after make clean)

# .venv/.ready says in which folder a finished .venv was made. A .venv that was moved here, or whose Python is gone, is
# made anew; so is one whose setup was interrupted, for it has no such file.
ifneq ($(shell test -x $(python) && cat .venv/.ready 2>/dev/null),$(CURDIR))
.PHONY: .venv/.ready
endif

.venv/.ready: requirements.lock pyproject.toml
	@if [ "$$(cat $@ 2>/dev/null)" = "$(CURDIR)" ] && $(python) -c '' 2>/dev/null; then \
	  echo "Updating .venv"; rm $@; \
	else \
	  $(find_python); \
	  echo "Setting up .venv with Python $$version (2 to 3 minutes, once)"; \
	  "$$found" -m venv --clear .venv; \
	fi
	@$(python) -m pip install -qq --require-hashes --no-deps -r requirements.lock
	@$(python) -m pip install -qq --no-deps --no-build-isolation --editable .
	@printf '%s' "$(CURDIR)" > $@

# Shell: sets `found` and `version`, or ends with one sentence. A python may be there and fail (pyenv's shims do), so each
# is run; one that cannot make environments (Debian's without python3-venv) is passed over too.
pythons = $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3 python)
define find_python
found=; lacking=; \
for name in $(pythons); do \
  if version=$$("$$name" -c '$(check_python)' 2>/dev/null); then found=$$name; break; fi; \
  if [ -n "$$version" ]; then lacking=$$name; fi; \
done; \
if [ -z "$$found" ]; then \
  if [ -n "$$lacking" ]; then \
    echo "error: $$lacking has no venv module: install it (on Debian: apt-get install python3-venv), or name another with PYTHON=." >&2; \
  else \
    echo "error: no Python 3.11 to 3.13 that runs (tried" $(pythons)"): install one, or name yours with PYTHON=." >&2; \
  fi; \
  exit 1; \
fi
endef

# Python, on one line because make cuts a recipe at line ends. A version printed by a failing command lacks venv only.
check_python = import sys; v = sys.version_info[:2]; print("%d.%d" % v) if (3, 11) <= v <= (3, 13) else sys.exit(1); import ensurepip, venv
check_extras = import sys, tomllib; \
  known = tomllib.load(open("pyproject.toml", "rb"))["project"].get("optional-dependencies", {}); \
  unknown = [name for name in sys.argv[1].split(",") if name not in known]; \
  unknown and sys.exit("error: no extra is called " + unknown[0] + "; there are: " + (", ".join(known) or "none") + ".")
