"""The console commands. Nothing heavy is imported before it is known to be needed."""

import sys

QUANTIZE = """\
quantize: make a sealed NVFP4 checkpoint from a recipe.

usage: quantize [key=value ...]        Hydra overrides; groups and keys are the files in conf/

  quantize                                          the demo recipe, minutes on two cores
  quantize kv_cache=none output_dir=/data/nokv      the demo without KV scales, at a place of your own
  quantize recipe=minimax_m2_7_nvfp4 model.path=/data/MiniMax-M2.7
                                                    the real one; its datasets are given likewise

The model from the hub, at a commit: model.path=null model.repository=OWNER/NAME model.revision=COMMIT
Several GPUs: torchrun --nproc-per-node=8 --no-python quantize …, or quantize hydra/launcher=slurm …
Several configurations: quantize -m kv_cache=fp8,none

The result stands under its name only when complete and sealed; the same command again reuses it.
Exit status: 0 made or reused, 1 failed, 2 nothing started because something is wrong with the request.
"""

VERIFY = """\
verify: prove a checkpoint, or name the first byte that differs.

usage: verify checkpoint=DIR [source=DIR] [levels=[...]] [report=FILE]

  verify checkpoint=runs/checkpoints/demo source=demo/model      every level
  verify checkpoint=/data/MiniMax-M2.7-NVFP4                     what can be checked without its source
  verify checkpoint=/data/other source=/data/MiniMax-M2.7 levels=[structure,weights]
                                                                 a checkpoint that nobody sealed

Levels: integrity (what was sealed is what is there), structure (complete, sane, consistent),
weights (every packed byte follows from the source). They need no GPU.
Exit status: 0 every level asked for holds, 1 something differs, 2 it could not be checked.
"""

ANALYSE = """\
analyse: what the calibration of a sealed checkpoint was worth, measured.

usage: analyse checkpoint=DIR [against=DIR] [report=DIR] [tracking=off]

  analyse checkpoint=runs/checkpoints/demo
  analyse checkpoint=/data/all-experts against=/data/natural     two checkpoints of one model, scale by scale
  analyse checkpoint=/data/mine report=/data/report tracking=off

Tells how many bytes depend on calibration at all, how each amax converged with the samples, what each
dataset adds, how the routers spread the tokens, and what forcing every expert changes. Tables on the
screen; report.md, analysis.json and figures in <checkpoint>.analysis. It needs neither source nor GPU.
Exit status: 0 told, 1 the report could not be written, 2 nothing could be told, and why.
"""

COMPARE = """\
compare: what two checkpoints of one model differ in.

usage: compare a=DIR b=DIR [report=DIR] [tracking=off]

  compare a=runs/checkpoints/demo b=runs/checkpoints/demo_as_run
  compare a=/data/mine b=/data/theirs tracking=off               sealed or not
  compare a=/data/as-run b=/data/done-truly report=/data/report

Tensors by role: which differ, in how many bytes and how far. Configuration, statistics and coverage where
both are sealed. A table on the screen; report.md and comparison.json in <a>.against.<b's name>.
Exit status: 0 compared, 1 the report could not be written, 2 nothing could be compared, and why.
"""

PLAN = """\
plan: what a recipe will do and take, before a GPU is paid for.

usage: plan [key=value ...] [report=FILE]        the overrides of quantize
       plan RECIPE RECIPE [key=value ...]        two recipes side by side

  plan recipe=minimax_m2_7_nvfp4                 MiniMax-M2.7 from its config.json, minutes on a CPU
  plan recipe=local model.path=/data/Mixtral     any model that transformers knows; config.json is enough
  plan demo minimax_m2_7_nvfp4                   every difference, and what it changes

Counted: modules, quantizers, tensors, bytes, tokens an expert sees, FLOP, memory, disk, and the GPUs on which
the result fits. No weight is read. The JSON lies in <work_dir>/plans, or in FILE.
Exit status: 0 planned, 1 failed, 2 the request is wrong, or the recipe would not do what it says.
"""


FETCH = """\
fetch: bring everything that a recipe takes from the hub; quantize nothing.

usage: fetch [key=value ...]           the same overrides as quantize

  fetch recipe=minimax_m2_7_nvfp4 model.revision=COMMIT calibration.datasets.NAME.revision=COMMIT ...
                                                            the real model and its samples
  fetch recipe=local model.path=null model.repository=OWNER/NAME model.revision=COMMIT
                                                            any other model; its texts are a local file
  fetch recipe=minimax_m2_7_nvfp4 model.path=/data/MiniMax-M2.7 calibration.datasets.NAME.revision=COMMIT ...
                                                            the samples alone

The model comes into <work_dir>/sources, every file checked against the hub's digest. Of the datasets stays
the sealed sample set in <work_dir>/samples. The same quantize command then needs no network.
An interrupted download goes on where it ended; what is here and was checked is not read again.
HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are respected.
Exit status: 0 complete, 1 failed, 2 nothing started because something is wrong with the request.
"""

SERVE = """\
serve: start an engine on a checkpoint, ask it what it must know, keep it until Ctrl-C.

usage: serve checkpoint=DIR [serving=PROFILE] [truth=QUESTIONS] [key=value ...]

  serve checkpoint=runs/checkpoints/demo                       no GPU: dequantized, by transformers
  serve checkpoint=/data/MiniMax-M2.7-NVFP4 serving=sglang_recommended truth=card serving.port=8000
  serve checkpoint=/data/mine stay=false                       ask the known questions, then stop

Profiles are the files in conf/serving, question sets those in conf/truth. The server listens on loopback
unless serving.host and serving.api_key_file say otherwise. Its log lies in <work_dir>/serve.
Exit status: 0 asked and stopped (stay=false), 1 failed, 2 nothing started, 130 Ctrl-C, 143 SIGTERM.
"""

BENCHMARK = """\
benchmark: throughput and latency of a served checkpoint, and how far the figures can be trusted.

usage: benchmark checkpoint=DIR serving=PROFILE [benchmark=card|demo] [key=value ...]
       benchmark endpoint=URL tokenizer=DIR [model=NAME] [key=value ...]       a server that runs

  benchmark checkpoint=runs/checkpoints/demo serving=transformers_cpu          the demo on two cores
  benchmark checkpoint=/data/MiniMax-M2.7-NVFP4 serving=PROFILE benchmark=card
                                                    the card's sweep, its own numbers beside
  benchmark -m checkpoint=DIR serving=PROFILE serving.flags.attention-backend=fa3,flashinfer
                                                    backends compared in one table

Users each send a request, read the answer and send the next: 1 user, then more. The server is started several
times for the spread, and the client is measured alone on an endpoint without a model. Tables on the screen;
report.md, results.json and a figure in <work_dir>/benchmarks. What was measured before an interrupt is kept.
Exit status: 0 measured, 1 failed, 2 nothing was measured because something is wrong with the request.
"""


_LAUNCHER = "hydra/launcher="


def quantize() -> None:
    """Console entry point `quantize`."""
    through_hydra = any(word in ("-m", "--multirun") or word.startswith(_LAUNCHER) for word in sys.argv[1:])
    _main(QUANTIZE, "pipeline.launched" if through_hydra else "pipeline.quantize.command")


def verify() -> None:
    """Console entry point `verify`."""
    _main(VERIFY, "pipeline.verify.command", failed=2)


def analyse() -> None:
    """Console entry point `analyse`."""
    _main(ANALYSE, "pipeline.analyse.command")


def compare() -> None:
    """Console entry point `compare`."""
    _main(COMPARE, "pipeline.compare.command")


def plan() -> None:
    """Console entry point `plan`."""
    _main(PLAN, "pipeline.plan.command")


def fetch() -> None:
    """Console entry point `fetch`."""
    _main(FETCH, "pipeline.fetch")


def serve() -> None:
    """Console entry point `serve`."""
    _main(SERVE, "pipeline.serve.command")


def benchmark() -> None:
    """Console entry point `benchmark`."""
    swept = not {"-m", "--multirun"}.isdisjoint(sys.argv[1:])
    _main(BENCHMARK, "pipeline.benchmark.comparison" if swept else "pipeline.benchmark.command")


def _main(help_text: str, module: str, failed: int = 1) -> None:
    words = sys.argv[1:]
    if any(word in ("-h", "--help") for word in words):
        print(help_text, end="")
        return
    from pipeline.command import run

    run(help_text.split(":")[0], module, words, failed)
