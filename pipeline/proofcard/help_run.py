"""The usage of `run`, for help.py."""

RUN = """\
usage: proofcard run [skip=[STAGE,...]] [key=FILE] [key=value ...] [--json]

  proofcard run recipe=demo
      the demo from its recipe to its card, minutes on two cores
  proofcard run recipe=demo 'skip=[benchmark,evaluate]' kv_cache=none
      without two stages, and with another choice of quantize
  proofcard run recipe=minimax_m2_7_nvfp4 kv_cache=fp8 processes=8 \\
      serving=sglang_hopper model.revision=COMMIT ... key=private.pem
      the real one: quantize and evaluate on eight GPUs, signed at the end

Stages: plan, fetch, quantize, verify, analyse, serve (known answers),
benchmark, evaluate, audit, card, sign. Each is the command of its name, started
with the overrides that concern it, and printed so that it can be pasted.
Shown first: every stage with its time and its disk. What is sealed, or has its
document for this very manifest and configuration, is reused. What this machine
cannot do is refused before any work. Without key=FILE nothing is signed (the
demo makes a key of its own). After a failure or Ctrl-C the same command
resumes; a second Ctrl-C ends the stage at once.
Exit status: 0 everything made or reused, 1 a stage failed, 2 not started: the
request is wrong, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.
"""
