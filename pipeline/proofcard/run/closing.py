"""How a chain ends: its document tracked under the checkpoint, its times, and three lines to go on with."""

from proofcard import outcome, tracking, tracking_parents
from proofcard.config import compose
from proofcard.config.schema import Tracking
from proofcard.config.signing import SignConfig
from proofcard.disk import write_whole
from proofcard.pasted import command
from proofcard.progress import shown
from proofcard.run import show, stages
from proofcard.run.chain import Chain
from proofcard.screen import Screen
from proofcard.sign.signing import verify_command
from proofcard.tracking_links import run_link
from proofcard.tracking_store import connected, lock_of


def close(chain: Chain) -> None:
    """Track and show a complete chain."""
    target = chain.target
    assert target.sealed is not None
    card = target.folder / "README.md"
    run = chain.document().model_copy(
        update={
            "card": str(card) if card.exists() else None,
            "verify": verification(chain),
        }
    )
    write_whole(chain.path(), run.text())
    subject = tracking.of_sealed(target.sealed)
    config = chain.request.recipe.tracking
    work_dir = chain.request.recipe.work_dir
    with tracking.opened(config, "run", work_dir, subject=subject) as tracker:
        seconds = {stage.name: stage.seconds for stage in run.stages if stage.state == "made"}
        tracker.metrics({"seconds": sum(seconds.values())})
        tracker.numbers(seconds, "run/seconds.json")
        tracker.file(chain.path(), "run")
    page = _page(config, chain, subject)
    last = [
        ("card", shown(card) if run.card else "none: it was left out"),
        ("MLflow run", page),
        ("verify it", str(run.verify)),
    ]

    def tables(out: Screen) -> None:
        show.times(run, out)
        show.lines(last, out)

    outcome.present(run, tables)


def verification(chain: Chain) -> str:
    """The command with which somebody else verifies the checkpoint: by its signature, if it is signed."""
    target = chain.target
    if "sign" in chain.document().finished():
        return verify_command(compose(SignConfig, "sign", stages.words("sign", chain.request, target)[1:]))
    return command("verify", checkpoint=shown(target.folder), source=shown(target.source))


def _page(config: Tracking, chain: Chain, subject: tracking.Subject) -> str:
    """The page of the checkpoint's run, and for a store in a file the command that serves it."""
    if tracking.is_off(config):
        return "none: tracking is off"
    with connected(config, chain.request.recipe.work_dir) as (mlflow, _):
        experiment = mlflow.MlflowClient().get_experiment_by_name(config.experiment)
        run = tracking_parents.found_or_made(mlflow, config.experiment, subject, lock_of(config))
    return run_link(config, experiment.experiment_id, run)
