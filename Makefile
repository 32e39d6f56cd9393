# Sets everything up on a machine that has only make and Python 3.11, 3.12 or 3.13.

PYTHON  ?= python3
VENV    ?= .venv
EXTRAS  ?=
ARGS    ?=
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help train test test-suites install-suites installed test-adapters test-pythons test-here \
        test-slow test-lowest test-newest lock package lint format notebooks docs clean venv
.NOTPARALLEL:

help:  ## list the targets (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  PYTHON=python3.12   the Python that makes the virtual environment (default: python3)"
	@echo "  VENV=.venv-3.12     where that environment is (default: .venv)"
	@echo "  EXTRAS=cuda12       extras to install as well: cuda12, tpu, notebooks, video, tensorboard,"
	@echo "                      wandb, mlflow, optuna, serve, onnx, or suites for brax, craftax,"
	@echo "                      jaxmarl, jumanji, navix, pgx, playground, xminigrid, gymnasium,"
	@echo "                      mujoco, envpool and ale; several with commas"
	@echo "  PYTHONS=3.11,3.13   those of test-lowest and test-newest (default: all at hand)"
	@echo "  ARGS='...'          passed on to the training script, or to pytest"
	@echo "  WORKERS=4           processes of the test suite (default: 2)"

# ---- set-up -----------------------------------------------------------------------------------
# A stamp in the environment says what it holds. It is older than pyproject.toml or constraints.txt
# when those have changed since, and it is missing when the installation failed. Bytecode is written
# on all cores; pip would write it on one, and that of the packages' own tests as well.

comma := ,
extras := $(sort $(subst $(comma), ,$(EXTRAS)))
known := cuda12 tpu notebooks video tensorboard wandb mlflow optuna serve onnx suites brax craftax jaxmarl \
         jumanji navix pgx playground xminigrid gymnasium mujoco envpool ale test docs
unknown := $(filter-out $(known),$(extras))
ifneq ($(unknown),)
$(error EXTRAS=$(EXTRAS): there is no extra named $(unknown); there are $(known))
endif
empty :=
joined = $(subst $(empty) $(empty),$(1),$(strip $(2)))

core := $(VENV)/.installed-$(call joined,-,core $(extras))
dev  := $(VENV)/.installed-$(call joined,-,dev $(extras))

$(core): wanted := $(extras)
$(dev):  wanted := $(extras) dev

$(core) $(dev): pyproject.toml constraints.txt | venv
	@echo "Installing jaxdrl$(if $(strip $(wanted)),[$(call joined,$(comma),$(wanted))]) into $(VENV) (some minutes the first time)"
	@"$(VENV)/bin/python" -m pip install --disable-pip-version-check --no-compile \
	    --constraint constraints.txt --editable ".$(if $(strip $(wanted)),[$(call joined,$(comma),$(wanted))])"
	@cd "$(VENV)" && bin/python -m compileall -qq -j 0 -x '/tests?/' lib || true
	@touch $(core) $@

# Checks PYTHON and makes the environment. One that exists is used as it is, unless PYTHON is given
# and is another version.
version := -c 'import sys; print("%d.%d" % sys.version_info[:2])'
needs   := jaxdrl needs Python 3.11, 3.12 or 3.13

venv:
	@have=`"$(VENV)/bin/python" $(version) 2>/dev/null`; \
	if [ -e "$(VENV)/.created" ]; then \
	  if [ -z "$$have" ]; then \
	    echo "The Python of $(VENV) no longer runs: 'make clean' removes $(VENV)." >&2; exit 1; fi; \
	  if [ "$(origin PYTHON)" = file ]; then exit 0; fi; \
	fi; \
	want=`$(PYTHON) $(version) 2>/dev/null`; \
	case "$$want" in \
	  3.11|3.12|3.13) ;; \
	  "") echo "$(needs), and $(PYTHON) does not run: name one, as in PYTHON=python3.12." >&2; exit 1 ;; \
	  *) echo "$(needs), and $(PYTHON) is $$want: name another, as in PYTHON=python3.12." >&2; exit 1 ;; \
	esac; \
	if [ -n "$$have" ] && [ "$$have" != "$$want" ]; then \
	  echo "$(VENV) holds Python $$have, and $(PYTHON) is $$want: 'make clean' removes $(VENV)," \
	    "VENV=.venv-$$want keeps both." >&2; exit 1; fi; \
	if [ -e "$(VENV)/.created" ]; then exit 0; fi; \
	echo "Making $(VENV) with Python $$want"; \
	$(PYTHON) -m venv "$(VENV)" && touch "$(VENV)/.created"

# ---- train, test and the rest ----------------------------------------------------------------------

train: $(core)  ## train PPO on CartPole; on a GPU: make train EXTRAS=cuda12
	"$(VENV)/bin/python" experiments/cartpole.py $(ARGS)
	@echo "To run these commands in this terminal, first: . $(VENV)/bin/activate"

# Flags of the compiler are those of a process: one session for the files that are compiled quickly,
# one for those that are compiled as users do. ARGS may choose tests of one kind alone.
define both_sessions
	@empty=0; for kind in quickly fully; do \
	  echo "pytest --compile=$$kind"; \
	  "$(VENV)/bin/pytest" -n $(WORKERS) --compile=$$kind $(1) $(ARGS); status=$$?; \
	  case $$status in 0) ;; 5) empty=$$((empty + 1)) ;; *) exit $$status ;; esac; done; \
	if [ $$empty = 2 ]; then echo "no test was selected" >&2; exit 1; fi
endef

test: lint  ## check formatting, lint and types, then run the tests
	$(call both_sessions)

with_suites = VENV="$(VENV)-suites" EXTRAS="$(call joined,$(comma),$(extras) onnx suites test)"

test-suites:  ## install every suite and onnx, and test what needs them
	@$(MAKE) --no-print-directory test-adapters $(with_suites)

install-suites:
	@$(MAKE) --no-print-directory installed $(with_suites)

installed: $(core)

# In an environment of their own, so that the other tests are those without suites, and their
# environment is without the many packages of onnx. What is compiled there is kept there.
suites := brax craftax jaxmarl jaxmarl_import jumanji navix pgx playground xminigrid registry \
          suites_on_devices
pictures := craftax_tiles jumanji_boards mujoco_outlines pgx_boards
on_host := host_gymnasium host_envpool host_ale
adapters := $(suites:%=tests/envs/suites/test_%.py) $(pictures:%=tests/envs/drawing/test_%.py) \
            $(on_host:%=tests/envs/host/test_%.py)

test-adapters: export JAX_COMPILATION_CACHE_DIR := $(abspath $(VENV))/.compiled
test-adapters: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS := 0
test-adapters: export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES := -1
test-adapters: export JAXDRL_TESTS_NEED := onnx
test-adapters: $(core)
	$(call both_sessions,$(adapters) tests/analysis/test_onnx_file.py)

test-pythons: $(dev)  ## try every other supported Python on this machine
	@"$(VENV)/bin/python" tests/other_pythons.py "$(MAKE)" "$(VENV)" "$(WORKERS)"

# What depends on the Python most: installation, packaging, profiling and run directories.
test-here: $(core)
	"$(VENV)/bin/pytest" -q -p no:cacheprovider tests/test_package.py tests/runs/profiling/test_breakdown.py \
	    tests/runs/profiling/test_trace_reader.py tests/runs/test_run_dir.py $(ARGS)

test-slow: $(dev)  ## run the slow tests
	$(call both_sessions,-m slow)

# ---- versions of the dependencies ------------------------------------------------------------------
# uv, which resolves them for every Python and platform at once, has an environment of its own.

UV      ?= $(VENV)-uv/bin/uv
PYTHONS ?=

$(VENV)-uv/bin/uv:
	@$(PYTHON) -m venv "$(VENV)-uv"
	@"$(VENV)-uv/bin/python" -m pip install --disable-pip-version-check --quiet "uv>=0.9,<0.14"

lock: $(UV)  ## renew constraints.txt, what make installs; all of it: ARGS=--upgrade
	@UV_CUSTOM_COMPILE_COMMAND="make lock" "$(UV)" pip compile --quiet --universal --all-extras \
	    --python-version 3.11 --no-annotate --output-file constraints.txt $(ARGS) pyproject.toml
	@echo "constraints.txt: $$(grep -c == constraints.txt) versions"

test-lowest test-newest: $(UV)
	@$(MAKE) --no-print-directory installed EXTRAS=
	@"$(VENV)/bin/python" tests/version_ranges.py $(@:test-%=%) "$(UV)" "$(VENV)" "$(WORKERS)" \
	    "$(call joined,$(comma),$(extras))" "$(PYTHONS)" $(ARGS)

test-lowest:  ## test the lowest versions that pyproject.toml allows, on each Python
test-newest:  ## test the newest versions that pyproject.toml allows, on each Python

package: $(UV)  ## build the wheel and the sources into dist/, and check them
	@rm -rf dist
	@"$(UV)" build --quiet --out-dir dist
	@"$(UV)" tool run --quiet --from "twine>=6.2,<8" twine check --strict dist/*
	@"$(UV)" tool run --quiet "check-wheel-contents>=0.6.3,<0.7" dist/*.whl

lint: $(dev)  ## check formatting, lint and types
	"$(VENV)/bin/ruff" format --check .
	"$(VENV)/bin/ruff" check .
	"$(VENV)/bin/mypy"

format: $(dev)  ## format the code and fix what can be fixed
	"$(VENV)/bin/ruff" check --fix-only .
	"$(VENV)/bin/ruff" format .

notebooks: $(dev)  ## execute the notebooks in place
	"$(VENV)/bin/python" notebooks/execute.py $(ARGS)

docs: $(dev)  ## build the documentation site; a broken link or reference fails
	"$(VENV)/bin/python" docs/site/build.py $(ARGS)

clean:  ## remove the virtual environments, caches and builds, never runs/
	@echo "Removing $(VENV), $(VENV)-suites, -3.*, -lowest-*, -newest-* and -uv, caches and builds"
	@for venv in "$(VENV)" "$(VENV)-suites" "$(VENV)"-3.* "$(VENV)"-lowest-3.* "$(VENV)"-newest-3.* \
	    "$(VENV)-uv"; do \
	  if [ -e "$$venv/pyvenv.cfg" ]; then rm -rf "$$venv"; fi; done
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
