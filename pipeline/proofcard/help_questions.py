"""Help of the commands that put questions to a served model: ASCII, at most 80 columns."""

TASKS = """\
usage: proofcard tasks candidate.checkpoint=DIR reference.checkpoint=DIR
                       serving=PROFILE [tasks=SET] [policy=RULE] [key=value ...]
       proofcard tasks candidate.endpoint=URL reference.endpoint=URL ...
                       servers that are already running; the two can be mixed

  proofcard tasks candidate.checkpoint=runs/checkpoints/demo \\
      reference.checkpoint=demo/model serving=transformers_cpu policy=demo
      300 questions of the demo's own on two cores
  proofcard tasks candidate.endpoint=http://127.0.0.1:8000/v1 \\
      reference.endpoint=http://127.0.0.1:8001/v1 tasks=nvidia_m2_7 \\
      policy=nvidia tasks.only=[mmlu_pro,aime25] tasks.download=true
      two of the tasks that NVIDIA's card reports, its values beside
  proofcard tasks candidate.endpoint=URL reference.endpoint=URL \\
      policy.margin=0.02 tasks.limit=100
      another margin, fewer questions

lm-evaluation-harness (make setup-bench) asks both the same. Shown are scores,
recovery, questions lost and gained, exact McNemar, a paired bootstrap interval
and the smallest detectable loss; the policy's margins decide. Data is not
fetched unless tasks.download=true. Results are in <work_dir>/tasks.
Exit status: 0 ACCEPT, 1 REGRESSION, 3 INCONCLUSIVE, 2 failed or not started.
"""

AGENTIC = """\
usage: proofcard agentic endpoint=URL [key=value ...]
       proofcard agentic checkpoint=DIR serving=PROFILE [key=value ...]

  proofcard agentic endpoint=http://127.0.0.1:8000/v1
      13 tasks in four phases that end in eleven Python files
  proofcard agentic checkpoint=/data/mine serving=sglang_recommended \\
      agentic.runs=5 agentic.at_least=12
      the engine is started; five runs, of which the worst must pass 12 tasks
  proofcard agentic endpoint=URL agentic.turns=40 agentic.sandbox=weak
      more replies a task; on a machine without Landlock

The model reads a specification and writes, reads and runs files through tools.
Its code runs confined by the kernel. After each task its files must compile and
pass checks that it has not seen. Results and conversations (inspect view) are
in <work_dir>/agentic.
Exit status: 0 built, 1 failed, or fewer than agentic.at_least tasks passed, 2
not started: the request is wrong.
"""

REPEAT = """\
usage: proofcard repeat endpoint=URL [tokenizer=DIR] [key=value ...]
       proofcard repeat checkpoint=DIR serving=PROFILE [key=value ...]

  proofcard repeat checkpoint=/data/mine serving=sglang_deterministic
      is it deterministic on this GPU?
  proofcard repeat checkpoint=runs/checkpoints/demo \\
      serving=transformers_cpu repeat=demo
      the demo on two cores
  proofcard repeat endpoint=URL tokenizer=DIR repeat.times=1000
      a server that runs; the first differing token by its number

The same greedy request 100 times alone, then 100 times among others: how many
different answers, and the first token that differs. Results are in
<work_dir>/repeat.
Exit status: 0 always the same, 1 it differs, 2 it could not be shown, or
nothing was started.
"""
