"""MLflow's store: its selection, regardless of the environment, and its creation.

`tracking.uri` and `tracking.experiment` alone decide where a run goes. Of MLflow's own variables those are
used that configure the connection to a server (credentials, certificates, timeouts, uploads); all others are
removed from the environment while a run is tracked, and listed. MLFLOW_RUN_ID may name a running run in our
store: it becomes the parent of what is not filed under a checkpoint.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType

from proofcard import tracking_view
from proofcard.config.schema import Tracking
from proofcard.errors import Usage, before_work, one_line
from proofcard.locks import alone
from proofcard.progress import console, shown
from proofcard.reachable import in_brief, why_unreachable
from proofcard.redact import redact

_RUN = "MLFLOW_RUN_ID"
_USED = re.compile(
    "MLFLOW_(TRACKING_(USERNAME|PASSWORD|PASSWORD_FILE|TOKEN|AUTH|AWS_SIGV4|INSECURE_TLS|.*_CERT_PATH)"
    "|HTTP_.*|KERBEROS_.*|WORKSPACE|S3_.*|GCS_.*|BOTO_.*|EXPERIMENTAL_S3_.*|MYSQL_SSL_.*|SQLALCHEMYSTORE_.*"
    "|(ENABLE_)?(PROXY_)?MULTIPART_.*|ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT|ALLOW_HTTP_REDIRECTS"
    "|SYSTEM_METRICS_.*|ENABLE_SYSTEM_METRICS_LOGGING|LOGGING_LEVEL|DISABLE_TELEMETRY)"
)
_OURS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # it logs tracebacks; what is lost is reported by the tracker
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is for documents; we print a link
    "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "5",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "true",
}
"""Defaults for variables that the environment does not set."""
_PATIENT = "7"  # retries: four minutes, in which a server that is started anew is back
_TRIES, _PAUSE = 10, 1.0  # while somebody else's program makes or opens the same SQLite file


@contextmanager
def connected(tracking: Tracking, work_dir: Path) -> Iterator[tuple[ModuleType, str | None]]:
    """MLflow, set to the configured store and experiment, and the run that MLFLOW_RUN_ID names, if any.

    Raises:
        Usage: when the store cannot be reached or written, or MLFLOW_RUN_ID names no running run of it.
    """
    before = dict(os.environ)
    asked = before.get(_RUN)
    try:
        _clean()
        for name, value in _OURS.items():
            os.environ.setdefault(name, value)
        mlflow = _connect(tracking, work_dir)
        parent = _parent(mlflow, asked, tracking) if asked else None
        if _is_server(tracking) and "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in before:
            os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = _PATIENT
        yield mlflow, parent
    finally:  # MLflow sets variables of its own, which would pass for the user's the next time
        for name in [name for name in os.environ if "MLFLOW_" in name and name not in before]:
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if "MLFLOW_" in name})


def _clean() -> None:
    """Remove variables that would send the run elsewhere, and report them."""
    names = [name for name in os.environ if re.match("_?MLFLOW_", name) and not _USED.fullmatch(name)]
    for name in names:
        del os.environ[name]
    if ignored := sorted(name for name in names if name != _RUN):
        console.print(
            f"MLflow: {', '.join(ignored)} of the environment {'is' if len(ignored) == 1 else 'are'} not "
            "used: tracking.uri and tracking.experiment decide",
            markup=False, soft_wrap=True,
        )  # fmt: skip


def _is_server(tracking: Tracking) -> bool:
    return not str(tracking.uri).startswith("sqlite")


def file_of(tracking: Tracking) -> Path | None:
    """The file of an SQLite store; None for a server."""
    address = re.match(r"sqlite(?:\+\w+)?:///([^?]*)", str(tracking.uri))
    name = address.group(1) if address is not None else ""
    return Path(name) if name not in ("", ":memory:") else None


def lock_of(tracking: Tracking) -> AbstractContextManager[None]:
    """What keeps other processes out of an SQLite store; nothing for a server, which sees to that itself."""
    file = file_of(tracking)
    if file is None:
        return nullcontext()
    return alone(file.with_name(f".{file.name}.lock"), f"opening MLflow's store {shown(file)}", waits=True)


def _connect(tracking: Tracking, work_dir: Path) -> ModuleType:
    assert tracking.uri is not None
    if why := why_unreachable(tracking.uri):
        raise _unreachable(tracking, why)
    import mlflow

    server = _is_server(tracking)
    file = file_of(tracking)
    artifacts = None if server else (work_dir / "mlartifacts").resolve().as_uri()
    if file is not None:
        with before_work():
            file.parent.mkdir(parents=True, exist_ok=True)
    with before_work(), lock_of(tracking):
        try:
            if file is not None and not file.exists():
                _make(file, str(artifacts))
            mlflow.set_tracking_uri(tracking.uri)
            mlflow.set_registry_uri(tracking.uri)
            _patiently(mlflow, tracking.experiment, artifacts, tries=1 if server else _TRIES)
        except Exception as error:  # every store has its own family of exceptions
            if isinstance(error, OSError) and not server:
                raise
            raise no_answer(tracking, error) from None
    return mlflow


def _unreachable(tracking: Tracking, why: str) -> Usage:
    """The error for a server at whose address nothing listens."""
    return Usage(
        f"MLflow at {redact(str(tracking.uri))} cannot be reached ({why}): start it, correct tracking.uri, "
        "or turn tracking off with tracking=off"
    )


def no_answer(tracking: Tracking, error: Exception) -> Usage:
    """The error for a store that cannot be opened, with what to do."""
    file = file_of(tracking)
    reason = redact(in_brief(error))
    advice = f"if {shown(file)} is damaged, move it away" if file is not None else "start it"
    return Usage(
        f"MLflow at {redact(str(tracking.uri))} does not respond ({reason}): {advice}, correct "
        "tracking.uri, or turn tracking off with tracking=off"
    )


def _make(file: Path, artifacts: str) -> None:
    """Create an SQLite store under a temporary name, so that an interrupt leaves no incomplete one."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    fresh = file.with_name(f".{file.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    try:
        SqlAlchemyStore(f"sqlite:///{fresh}", artifacts).engine.dispose()
        if not file.exists():  # as when `mlflow ui` was quicker
            fresh.rename(file)
    finally:
        fresh.unlink(missing_ok=True)


def _patiently(mlflow: ModuleType, experiment: str, artifacts: str | None, tries: int) -> None:
    """Find or create the experiment, retrying while another program uses the SQLite file."""
    for left in reversed(range(tries)):
        try:
            if mlflow.get_experiment_by_name(experiment) is None:
                _create(mlflow, experiment, artifacts)
            tracking_view.ensure(mlflow.MlflowClient(), mlflow.set_experiment(experiment))
            return
        except Exception as error:
            passing = re.search("locked|already exists|duplicate column|no such table", str(error))
            if not left or not passing:
                raise
            time.sleep(_PAUSE)


def _create(mlflow: ModuleType, experiment: str, artifacts: str | None) -> None:
    try:
        mlflow.create_experiment(experiment, artifact_location=artifacts, tags=tracking_view.tags())
    except mlflow.MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # as when another run was quicker
            raise


def _parent(mlflow: ModuleType, run_id: str, tracking: Tracking) -> str:
    """The run that MLFLOW_RUN_ID names, which has to be running, in this store.

    Raises:
        Usage: when it is not.
    """
    said = f"{_RUN}={redact(run_id)[:64]!r}"
    store = redact(str(tracking.uri))
    try:
        info = mlflow.MlflowClient().get_run(run_id).info
    except Exception as error:
        code = getattr(error, "error_code", "")
        if code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise Usage(
                f"{said} could not be looked up in {store}: {redact(one_line(error))[:200]}"
            ) from None
        raise Usage(
            f"{said} is not a run in {store}: unset it, or set tracking.uri to the store that has it"
        ) from None
    if info.lifecycle_stage != "active" or info.status != "RUNNING":
        state = info.status if info.lifecycle_stage == "active" else "deleted"
        raise Usage(f"{said} is a run that has ended ({state}): unset it; only a running run can be a parent")
    return run_id
