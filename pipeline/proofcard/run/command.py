"""`run`: the whole chain, from a recipe to a signed card.

uv run proofcard run recipe=demo
uv run proofcard run recipe=demo 'skip=[benchmark,sign]'

Every stage is a command in a process of its own: what is printed can be pasted, memory is given back, and a
stage behaves as it does alone.
"""

from proofcard.errors import Usage, before_work
from proofcard.joining import started
from proofcard.progress import console
from proofcard.run import child, finished, possible, request, show, stages, target
from proofcard.run.chain import Chain, planned, refused
from proofcard.run.closing import close
from proofcard.run.request import Request
from proofcard.screen import Screen


def run(overrides: list[str]) -> int:
    """Plan, show the plan, run every stage that is needed, and say where the result is. Returns 0.

    Raises:
        Usage: when the request is wrong, or this machine cannot do a stage; nothing but the plan was made.
        Stop: when a stage fails, with the command that resumes.
        KeyboardInterrupt: when it was interrupted; no stage is left running.
    """
    if started().count > 1:
        raise Usage(
            "run is one process and starts others itself: use processes=N instead of torchrun or srun"
        )
    asked = request.read(overrides)
    chain = prepared(asked)
    chain.work()
    close(chain)
    return 0


def prepared(asked: Request) -> Chain:
    """The chain with its plan shown, once nothing speaks against any stage on this machine.

    Raises:
        Usage: when something does.
    """
    seconds = None
    if (plan := finished.plan(asked)) is None:
        console.print("[plan] " + child.command(stages.words("plan", asked, target.NOWHERE)), soft_wrap=True)
        seconds, status = planned(asked)
        if status or (plan := finished.plan(asked)) is None:
            raise refused(status)
    with before_work():
        leads_to = target.expected(asked.recipe)
        reused = finished.reused(asked, leads_to)
        chain = Chain(asked, leads_to, reused)
        if seconds is not None:
            chain.begun("plan", seconds)
        possible.check(asked, plan, leads_to, chain.to_do())
    show.plan(asked, leads_to, plan, chain.not_started(), Screen(stderr=True))
    return chain
