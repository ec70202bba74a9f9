"""The texts of `proofcard --help` and `proofcard COMMAND --help`: ASCII, at most 80 columns."""

from proofcard.help_cards import AUDIT, CARD, SIGN
from proofcard.help_publish import PUBLISH
from proofcard.help_questions import AGENTIC, REPEAT, TASKS
from proofcard.help_run import RUN

SUMMARIES = {
    "run": "everything, from a recipe to a signed card",
    "plan": "what a recipe will do and cost, before a GPU is paid for",
    "fetch": "download the model and the samples of a recipe",
    "quantize": "make a sealed NVFP4 checkpoint from a recipe",
    "verify": "prove a checkpoint, or name the first byte that differs",
    "reproduce": "rebuild a checkpoint from its manifest and compare digests",
    "evaluate": "what quantization cost, beside the source, and where",
    "compare": "differences between two checkpoints of one model",
    "analyse": "calibration statistics of a checkpoint",
    "serve": "start an engine on a checkpoint, with a known-answer check",
    "benchmark": "throughput and latency of a served checkpoint",
    "tasks": "is it as good as its source? lm-eval tasks compared",
    "agentic": "a program built through tool calls, tested task by task",
    "repeat": "is the answer to one greedy request always the same?",
    "audit": "check the claims of a published card, one by one",
    "card": "write a model card from runs, or hold one to them",
    "sign": "sign a checkpoint, what it was made from and what was proved",
    "publish": "upload a proved checkpoint with its card, and read it back",
}
"""Every command with one line, in the order of the work."""

_QUANTIZE = """\
usage: proofcard quantize [key=value ...]
       Hydra overrides; the groups and keys are the files in conf/

  proofcard quantize
      the demo recipe, minutes on two cores
  proofcard quantize kv_cache=none output_dir=/data/nokv
      the demo without KV scales, in a folder of your choice
  proofcard quantize recipe=minimax_m2_7_nvfp4 model.path=/data/MiniMax-M2.7
      the real model; its datasets are set the same way

From the hub, at a commit: model.path=null model.repository=OWNER/NAME
    model.revision=COMMIT
Several GPUs: torchrun --nproc-per-node=8 --no-python proofcard quantize ...
    or proofcard quantize hydra/launcher=slurm ...
Several configurations: proofcard quantize -m kv_cache=fp8,none

The result gets its name only when it is complete and sealed; the same command
reuses it. An interrupted run resumes after its last complete layer.
Exit status: 0 made or reused, 1 failed, 2 not started: the request is wrong.
"""

_VERIFY = """\
usage: proofcard verify checkpoint=DIR [source=DIR] [levels=[...]]
                        [report=FILE] [junit=FILE] [sarif=FILE] [--json]

  proofcard verify checkpoint=runs/checkpoints/demo source=demo/model
      integrity, structure and weights
  proofcard verify checkpoint=/data/MiniMax-M2.7-NVFP4
      without the source, as far as possible
  proofcard verify checkpoint=hf://OWNER/NAME@COMMIT \\
      source=hf://OWNER/NAME@COMMIT
      either side from the hub, a shard at a time; keep=true keeps both

A checkpoint that was never sealed: levels=[structure,weights]
Levels: integrity (every file as it was sealed), structure (complete, sane,
consistent), weights (every packed byte follows from the source). No GPU needed.
The report goes beside the checkpoint, and is never replaced by one that proves
less of it. Requested by name: samples (samples=DIR; rows are drawn again from
datasets.NAME=FILE) and calibration (source=DIR samples=DIR; layers=[0,17] is a
spot check; texts=FILE judges the scales of unknown samples).
Who signed it, and what was stated with it: public_key=FILE (level signature).
Exit status: 0 every requested level holds, 1 something differs, 2 it could not
be checked.
"""

_REPRODUCE = """\
usage: proofcard reproduce checkpoint=DIR|manifest=FILE|run=MLFLOW_RUN_ID
                           [source=DIR] [samples=DIR] [datasets.NAME=FILE ...]
                           [strict=true] [key=value ...]

  proofcard reproduce checkpoint=runs/checkpoints/demo
  proofcard reproduce manifest=manifest.json source=/data/MiniMax-M2.7 \\
      datasets.texts=/data/texts.jsonl
  proofcard reproduce run=0123456789abcdef0123456789abcdef

Composes the recorded configuration, says what in the environment is not as
recorded and how to get that, rebuilds the checkpoint below <work_dir>, and
compares every digest. Code of a model runs only if its digest is allowed by a
bundled recipe or remote_code=[SHA256]. Several GPUs: start it with torchrun.
Exit status: 0 reproduced bit for bit, 3 weights bit for bit and calibration
within ULP on another numeric platform, 1 not reproduced, 2 not started or not
finished.
"""

_ANALYSE = """\
usage: proofcard analyse checkpoint=DIR [report=DIR] [tracking=off]

  proofcard analyse checkpoint=runs/checkpoints/demo
  proofcard analyse checkpoint=/data/mine report=/data/report tracking=off
  proofcard analyse checkpoint=runs/checkpoints/demo --json

Shows how many bytes depend on calibration, how each amax converged with
the samples, what each dataset adds, how routers distribute tokens, and what
calibrating all experts changes. Tables on the screen; report.md, analysis.json
and figures in <checkpoint>.analysis. Needs neither the source nor a GPU.
Exit status: 0 analysed, 1 failed, 2 nothing was: the request is wrong.
"""

_EVALUATE = """\
usage: proofcard evaluate checkpoint=DIR source=DIR [key=value ...]

  proofcard evaluate checkpoint=runs/checkpoints/demo source=demo/model
      on held-out rows of the recipe's datasets
  proofcard evaluate recipe=minimax_m2_7_nvfp4 evaluation=protocol \\
      checkpoint=/data/MiniMax-M2.7-NVFP4 source=/data/MiniMax-M2.7
      the real one, 100 texts of 2,048 tokens
  proofcard evaluate recipe=local checkpoint=/data/other source=/data/model \\
      evaluation.text=texts.jsonl evaluation.candidates=[w4a16,w4a4]
      somebody else's checkpoint, on your own texts

Both models read the same tokens, a layer at a time: KL divergence, perplexity
and top-1 agreement with 95% intervals over texts; what weights, activations and
KV cache each cost; the error after each layer, of each expert, of the routers.
No server. Tables on the screen; report.md, evaluation.json and figures in
<checkpoint>.evaluation. Several GPUs, and resuming after an interruption, as
with quantize.
Exit status: 0 evaluated, 1 failed, 2 not started: the request is wrong.
"""

_COMPARE = """\
usage: proofcard compare a=DIR b=DIR [report=DIR] [tracking=off]
       proofcard compare RUN RUN [report=DIR] [key=value ...]

  proofcard compare a=runs/checkpoints/demo b=runs/checkpoints/demo_as_run
  proofcard compare a=/data/mine b=/data/theirs tracking=off
      sealed or not
  proofcard compare runs/checkpoints/demo 5a5c4ddd4abf
      two runs by folder, key, or MLflow's id or name of a run

a= and b=: tensors by role, which differ, in how many bytes and by how much;
configuration, statistics, coverage and calibrated scales where both are sealed.
A table on the screen; report.md and comparison.json in <a>.against.<name of b>.
RUN RUN: what differs in configuration, toolchain, data and platform, then in
bytes and headline figures, and which can explain which, from the manifests and
MLflow alone; in <work_dir>/comparisons.
Exit status: 0 compared, 1 failed, 2 nothing was: the request is wrong.
"""

_PLAN = """\
usage: proofcard plan [RECIPE] [key=value ...] [details=true] [report=FILE]
       proofcard plan RECIPE RECIPE [key=value ...]   two recipes side by side

  proofcard plan recipe=minimax_m2_7_nvfp4
      MiniMax-M2.7 from its config.json, minutes on a CPU
  proofcard plan recipe=local model.path=/data/Mixtral
      any model that transformers knows; config.json is enough
  proofcard plan demo minimax_m2_7_nvfp4
      every difference, and its effect

A summary of a dozen lines; details=true also prints modules, patterns, tensors,
tokens per expert, memory and every GPU. Takes the overrides of quantize, reads
no weights. 1 GB is 10^9 bytes. The JSON is written to <work_dir>/plans, or to
FILE.
Exit status: 0 planned, 1 failed, 2 the request is wrong, or the recipe could
not do what it promises.
"""

_FETCH = """\
usage: proofcard fetch [key=value ...]      the same overrides as quantize

  proofcard fetch recipe=minimax_m2_7_nvfp4 model.revision=COMMIT \\
      calibration.datasets.NAME.revision=COMMIT ...
      the real model and its samples
  proofcard fetch recipe=local model.path=null model.repository=OWNER/NAME \\
      model.revision=COMMIT
      any other model; its calibration texts are a local file
  proofcard fetch recipe=minimax_m2_7_nvfp4 model.path=/data/MiniMax-M2.7 \\
      calibration.datasets.NAME.revision=COMMIT ...
      the samples only

The model goes to <work_dir>/sources, every file checked against the hub's
digest; the sealed sample set goes to <work_dir>/samples. After that the same
quantize command needs no network. An interrupted download resumes where it
ended. HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are respected.
Exit status: 0 complete, 1 failed, 2 not started: the request is wrong.
"""

_SERVE = """\
usage: proofcard serve checkpoint=DIR [serving=PROFILE] [truth=QUESTIONS]
                       [key=value ...]

  proofcard serve checkpoint=runs/checkpoints/demo
      no GPU: dequantized, served by transformers
  proofcard serve checkpoint=/data/MiniMax-M2.7-NVFP4 truth=card \\
      serving=sglang_recommended serving.port=8000
  proofcard serve checkpoint=/data/mine stay=false
      known-answer check, then stop

Profiles are the files in conf/serving, question sets those in conf/truth. The
server listens on loopback unless serving.host and serving.api_key_file are
set. Its log is in <work_dir>/serve. It runs until Ctrl-C. What does not
verify (integrity, structure) is not served, unless with verify=off.
Exit status: 0 checked and stopped (stay=false), 1 failed, 2 not started,
130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.
"""

_BENCHMARK = """\
usage: proofcard benchmark checkpoint=DIR serving=PROFILE
                           [benchmark=card|demo] [key=value ...]
       proofcard benchmark endpoint=URL tokenizer=DIR [key=value ...]
                           a server that is already running

  proofcard benchmark checkpoint=runs/checkpoints/demo serving=transformers_cpu
      the demo on two cores
  proofcard benchmark checkpoint=/data/MiniMax-M2.7-NVFP4 serving=PROFILE \\
      benchmark=card
      the card's sweep, compared with its own numbers
  proofcard benchmark -m checkpoint=DIR serving=PROFILE \\
      serving.flags.attention-backend=fa3,flashinfer
      backends compared in one table

Each user sends a request, reads the answer and sends the next: 1 user, then
more. The server is started several times for the spread, and the client is
measured alone on an endpoint without a model. Tables on the screen; report.md,
results.json and a figure in <work_dir>/benchmarks. An interrupt keeps what was
measured.
Exit status: 0 measured, 1 failed, 2 nothing was measured: the request is wrong.
"""

_USAGES = {
    "run": RUN,
    "plan": _PLAN,
    "fetch": _FETCH,
    "quantize": _QUANTIZE,
    "verify": _VERIFY,
    "reproduce": _REPRODUCE,
    "evaluate": _EVALUATE,
    "compare": _COMPARE,
    "analyse": _ANALYSE,
    "serve": _SERVE,
    "benchmark": _BENCHMARK,
    "tasks": TASKS,
    "agentic": AGENTIC,
    "repeat": REPEAT,
    "audit": AUDIT,
    "card": CARD,
    "sign": SIGN,
    "publish": PUBLISH,
}
_JSON = "--json prints the result as JSON on standard output, and tables on stderr.\n"
TEXTS = {
    name: f"proofcard {name}: {SUMMARIES[name]}.\n\n{usage}{_JSON}".replace("?.\n", "?\n", 1)
    for name, usage in _USAGES.items()
}
"""The help of every command."""


def overview() -> str:
    """What `proofcard --help` prints."""
    rows = "".join(f"  {name:<10} {summary}\n" for name, summary in SUMMARIES.items())
    return (
        "proofcard: model cards you can prove.\n\nusage: proofcard COMMAND [key=value ...]\n\n"
        f"{rows}\nproofcard COMMAND --help shows a command's usage and examples.\n"
        "proofcard COMMAND --cfg job prints what it is configured to do.\n"
        "A recipe or a checkpoint may be named alone: proofcard verify DIR\n"
        "Ctrl-C ends any command in order (status 130), a second one at once.\n"
        "proofcard --version prints the version.\n"
    )
