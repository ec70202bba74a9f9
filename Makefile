# `make help` lists what one can do: `##` marks a target for users, `#:` one for maintainers. Every target sets
# up what it needs, uv included.
UV := ./scripts/uv
SYNC := $(UV) sync --quiet --frozen --extra quantize --extra tracking --extra serve-cpu --extra agentic --extra sign --extra tracking-server --group dev
RUN := $(UV) run --no-sync
# Python keeps the byte code of what it imports: a fifth of the 24,000 files, which hundreds of processes import.
unexport PYTHONDONTWRITEBYTECODE
NIX := nix --extra-experimental-features 'nix-command flakes'

.DEFAULT_GOAL := help
.PHONY: help setup setup-serve setup-vllm setup-bench demo demo-tasks demo-checkpoint test lint ui bench rehearsal
.PHONY: nix-check image image-check server-check secrets same-bytes docs lock clean

# The targets whose comment begins with $(1), which must be two characters.
targets = grep -hE '^[a-z -]+:.*$(1) ' $(MAKEFILE_LIST) | sed -E 's/^setup-.*$(1) /  setup-X\t/; s/^([a-z-]+):.*$(1) /  \1\t/' | expand -t 19

help: ## this list
	@echo 'To use proofcard:'; $(call targets,##)
	@echo; echo 'To maintain it:'; $(call targets,#:)

setup: ## the locked environment in .venv
	@$(SYNC)

setup-serve setup-vllm setup-bench: setup-%: ## X: serve (SGLang), vllm, bench (the load generator), each in its own .venv-X
	@UV_PROJECT_ENVIRONMENT=.venv-$* $(UV) sync --quiet --frozen --extra $* --extra tracking

demo: setup setup-bench ## the demo from its recipe to its card: quantized, proved, served, measured, evaluated (SKIP=benchmark,…)
	@$(RUN) proofcard run recipe=demo $(if $(SKIP),'skip=[$(SKIP)]')

demo-tasks: demo-checkpoint setup-bench ## the demo's 300 questions, asked of source and checkpoint
	@$(RUN) proofcard tasks reference.checkpoint=demo/model candidate.checkpoint=runs/checkpoints/demo serving=transformers_cpu policy=demo

demo-checkpoint: setup ## its checkpoint alone: quantized, then every byte proved
	@$(RUN) proofcard quantize recipe=demo
	@$(RUN) proofcard verify checkpoint=runs/checkpoints/demo source=demo/model

test: setup #: every test, in three processes for two cores: a good part of the time a test waits
	@$(RUN) pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: setup #: ruff, types, and what pre-commit checks
	@$(RUN) pre-commit run --all-files

ui: setup ## the MLflow pages of the runs made here, on loopback, beside published numbers
	@$(RUN) python mlflow/ui.py

bench: setup #: packing, both engines and verify beside ModelOpt's
	@$(RUN) python benchmarks/packing.py
	@$(RUN) python benchmarks/engines.py
	@$(RUN) python benchmarks/verify.py

rehearsal: setup #: two layers of MiniMax-M2.7's real width, quantized and verified here (18 GB of disk)
	@$(RUN) python benchmarks/rehearsal.py

nix-check: #: the flake against the nixpkgs that it pins: environments, patches, tests, the demo (needs Nix 2.18 and its network)
	@command -v nix >/dev/null || { echo "make nix-check: no nix here: docs/nix.md" >&2; exit 1; }
	@$(NIX) flake check --print-build-logs
	@$(NIX) run .#quantize -- recipe=demo
	@$(NIX) run .#verify -- checkpoint=runs/checkpoints/demo source=demo/model

TARGET ?= quantize
image: ## TARGET=quantize|serve|vllm|bench|tracking: the image, the same bytes for the same commit
	@./scripts/image $(TARGET) $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE))

image-check: setup #: images built twice and compared, the demo in one against `uv run` (podman, 25 GB of /var/tmp)
	@PROOFCARD_IMAGES=$(or $(IMAGES),some) $(RUN) pytest tests/containers

server-check: setup #: the MLflow server of compose.yaml as processes, killed under two clients (PostgreSQL)
	@$(RUN) pytest tests/tracking_server

secrets: ## the passwords of compose.yaml, made once
	@./mlflow/new-secrets.sh

same-bytes: demo-checkpoint #: the demo by uv, Nix and container, and their digests into the README (OFFLINE=1: no nixpkgs, no registry)
	@PYTHONPATH=tests $(RUN) python scripts/same_bytes.py $(if $(OFFLINE),offline)

docs: demo-checkpoint #: tables and pictures of the documentation that the program makes (CHECK=1: fails if one is stale)
	@$(RUN) python scripts/docs.py $(if $(CHECK),check)

lock: #: refresh uv.lock and every file that names a version; UPGRADE=PACKAGE or all for newer ones
	@python3 scripts/pins.py refresh $(UPGRADE)

clean: ## remove what was made here: runs, caches (keeps .venv)
	rm -rf runs outputs .pytest_cache .ruff_cache .mypy_cache
