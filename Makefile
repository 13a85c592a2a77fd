# The doors of this project; `.ci/run` and pre-commit go through the same ones.
PYTHON ?= python3
BIN := .venv/bin

# make setup TORCH_INDEX=URL   torch from another index: one without the CUDA libraries (pytorch.org)
TORCH_INDEX ?=

# make demo                                        our own weights, on scenes drawn here
# make demo WEIGHTS=path [CLIPS="a.mp4 b.mp4"]     other weights, on clips
WEIGHTS ?=
CLIPS ?=

# make bench [CLIPS=a.mp4]: a clip of the shared data, or one that is drawn. make peers needs one.
MEDIA := $(or $(VEDETTE_SHARED),../shared)/media
BENCH_CLIP = $(addprefix --clip ,$(firstword $(CLIPS) $(wildcard $(MEDIA)/car-detection.mp4)))
PEERS := benchmarks/peers/.venv

# What some tests need from Debian's packages: a clock that can be set, and tests/gst_server.py.
DEBS := faketime gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
  gstreamer1.0-plugins-bad

.DEFAULT_GOAL := help
.PHONY: help setup debs demo test test-slow faults soak lint format bench bench-check peers lock

help: ## what each door does
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 12

# One install per state of the two files that decide it.
.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "$(PYTHON) is not Python 3.11, 3.12 or 3.13: name one, as in make setup PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),$(BIN)/pip install --quiet -c constraints.txt --index-url $(TORCH_INDEX) torch)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[all,dev]'
	@touch $@

setup: .venv/.installed ## make .venv and install everything, pinned (PYTHON=python3.12 picks one)

debs: ## gst-rtsp-server and faketime, for the tests that need them (Debian, as root)
	@dpkg --verify $(DEBS) 2>/dev/null || { apt-get update --quiet && DEBIAN_FRONTEND=noninteractive \
	  apt-get install --quiet --yes --no-install-recommends -o DPkg::Lock::Timeout=120 $(DEBS); }

demo: setup ## the main job on drawn streets; on clips: make demo WEIGHTS=path [CLIPS="a.mp4 b.mp4"]
	@$(if $(WEIGHTS)$(CLIPS),$(BIN)/python deploy/demo/demo.py --weights '$(WEIGHTS)' $(CLIPS),$(BIN)/vedette demo)

test: lint ## lint, then every test but the slow ones
	$(BIN)/pytest -m "not slow"

test-slow: setup ## the tests that take minutes, the rest of the fault suite among them
	$(BIN)/pytest -m slow --timeout 1800

faults: setup ## the fault suite whole, its table into build/faults.md (VEDETTE_FAULT_SEED=n)
	VEDETTE_FAULT_TABLE=build/faults.md $(BIN)/pytest tests/faults -m "slow or not slow" --timeout 400

soak: setup ## half an hour of cameras, workers and Redis being hurt (VEDETTE_SOAK_SECONDS=n)
	VEDETTE_SOAK_SECONDS=$(or $(VEDETTE_SOAK_SECONDS),1800) $(BIN)/pytest -s -m slow tests/faults/test_soak.py

lint: setup ## formatting, rules, types, who may import whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## put every file into the house's form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## parts and pipelines of this machine, into build/bench (CLIPS=a.mp4, WEIGHTS=path)
	$(BIN)/vedette bench $(BENCH_CLIP) $(if $(WEIGHTS),--weights '$(WEIGHTS)') -o build/bench

bench-check: setup ## whether any ratio has slipped by a tenth from benchmarks/ratios.json
	$(BIN)/python -m benchmarks.check

peers: setup $(PEERS)/.installed ## Vedette beside Ultralytics and a plain loop (CLIPS=a.mp4, or the shared data)
	$(BIN)/python benchmarks/peers/compare.py --python $(PEERS)/bin/python $(BENCH_CLIP)

$(PEERS)/.installed: benchmarks/peers/requirements.txt constraints.txt
	@test -n '$(BENCH_CLIP)' || { echo 'name a clip: make peers CLIPS=a.mp4'; exit 1; }
	$(PYTHON) -m venv $(PEERS)
	$(if $(TORCH_INDEX),$(PEERS)/bin/pip install --quiet -c constraints.txt --index-url $(TORCH_INDEX) torch)
	$(PEERS)/bin/pip install --quiet -c constraints.txt -r $<
	@touch $@

lock: setup ## pin the newest versions that fit, for every Python and machine, anew
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 pyproject.toml --all-extras \
	  -c constraints.in -o constraints.txt --upgrade --no-header --no-annotate
