"""`quantize` through Hydra's own main: its launchers (`hydra/launcher=slurm`) and its sweeps (`-m`)."""

import math
import os
import signal
import subprocess
import sys
from functools import partial

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from submitit.core.utils import FailedJobError, UncompletedJobError

from proofcard import children, garbage, interrupts, screen
from proofcard.bundle import bundled
from proofcard.config import QuantizeConfig, checked, compose
from proofcard.config.spelling import spelled, unescaped
from proofcard.errors import Stop, Usage, one_line
from proofcard.joining import started


def run(arguments: list[str]) -> int:
    """Check what each job would be asked for, then let Hydra start them and wait. Returns 0.

    Raises:
        Usage: before anything is started, when something about the request is wrong.
        Stop: when a job has failed.
    """
    if started().count > 1:
        raise Usage(
            "-m and hydra/launcher start processes of their own: give them to one process, not to ranks"
        )
    if screen.json_is_asked():
        raise Usage("--json is for one configuration: leave out -m and hydra/launcher, or --json")
    arguments = spelled(QuantizeConfig, arguments, sweeps=True)
    sys.argv[1:] = arguments  # Hydra reads them there
    asked = get_args_parser().parse_args(arguments)
    try:
        parsed = OverridesParser.create().parse_overrides(asked.overrides)
        jobs = BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]
    except HydraException as error:
        raise Usage(one_line(error)) from None
    for job in jobs:
        compose(QuantizeConfig, "config", unescaped(list(job)))
    if not asked.multirun:
        sys.argv.append("--multirun")  # the only mode in which Hydra asks a launcher
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on instead of printing their traces
    try:
        hydra.main(config_path=str(bundled("conf")), config_name="config", version_base="1.3")(job_of)()
    except (FailedJobError, UncompletedJobError) as error:
        said = " ".join(str(error).splitlines()[:2])
        raise Stop(
            f"{said}: look at its log, and mend the cause: the same command resumes after the last complete "
            "layer"
        ) from None
    return 0


def job_of(composed: DictConfig) -> None:
    """One job: in the process that the launcher has made for it, or in a new one where it made none.

    Raises:
        Stop: when it has failed; Usage when there was something wrong with it.
    """
    hydra_s = HydraConfig.get()
    if hydra_s.runtime.choices["hydra/launcher"] != "basic":
        garbage.look_seldom()
        from proofcard.quantize.command import execute

        execute(checked(QuantizeConfig, composed))
        return
    words = unescaped(list(hydra_s.overrides.task))
    program = children.python("-m", "proofcard", "quantize")
    environment = children.environment(secrets=True)  # it fetches from the hub and writes to MLflow
    with subprocess.Popen([*program, *words], start_new_session=True, env=environment) as job:
        try:
            status = job.wait()
        except KeyboardInterrupt:
            # it ends itself in time
            interrupts.allow(math.inf, partial(os.killpg, job.pid, signal.SIGKILL))
            job.send_signal(signal.SIGINT)
            raise
    if status:
        raise (Usage if status == 2 else Stop)(f"the job {' '.join(words)} ended with exit status {status}")
