"""A checkpoint among MLflow's models: a logged model for its key, a version of its recipe's registered model.

The weights stay where they are: to MLflow it is an external model. Aliases are set by runs that passed:
`verified` by a verification that derives every weight from the source, `published` by an upload that was
read back.
"""

import json
import re
from contextlib import suppress
from types import ModuleType
from typing import Any

from proofcard.config.compose import flatten
from proofcard.documents.manifest import Manifest
from proofcard.tracking_checkpoint import LONGEST
from proofcard.tracking_parents import Subject

MODEL, VERSION = "model_id", "model_version"
"""Tags of the checkpoint's run: the id of the logged model, and the number of the registered version."""
VERIFIED, PUBLISHED = "verified", "published"
_CHOICES = (
    "model.name", "model.repository", "model.revision", "quantization.format", "kv_cache.format",
    "coverage.name", "engine.name",
)  # fmt: skip
_VERSIONS = "mlflow.modelVersions"  # a tag of a logged model: MLflow's pages link its versions by it


def model_of(mlflow: ModuleType, parent: Any, subject: Subject, sealed: Manifest) -> tuple[str, str]:
    """The logged model and the version of a checkpoint, made where they are missing. `parent` is its run.

    The caller keeps other processes of this machine out. On a server two machines may make one each: both
    use the older one.
    """
    from mlflow.entities import LoggedModelOutput

    client, tags = mlflow.MlflowClient(), parent.data.tags
    if MODEL in tags and VERSION in tags:
        return tags[MODEL], tags[VERSION]
    place, run = parent.info.experiment_id, parent.info.run_id
    model = _oldest(client, place, subject.key)
    if model is None:
        about = {"key": subject.key} | ({"recipe": subject.recipe} if subject.recipe else {})
        made = mlflow.create_external_model(
            name=_plain(subject.name),
            source_run_id=run,
            tags=about,
            params=_choices(sealed),
            model_type="checkpoint",
            experiment_id=place,
        )
        model = _oldest(client, place, subject.key) or made.model_id
    version = _registered(client, model, run, subject)
    client.log_outputs(run, models=[LoggedModelOutput(model, 0)])
    client.set_tag(run, MODEL, model)
    client.set_tag(run, VERSION, version)
    return model, version


def _choices(sealed: Manifest) -> dict[str, str]:
    """What people choose a checkpoint by."""
    values = {name: str(value) for name, value in flatten(sealed.config).items()}
    return {name: values[name][:LONGEST] for name in _CHOICES if name in values}


def _oldest(client: Any, experiment: str, key: str) -> str | None:
    found = client.search_logged_models([experiment], filter_string=f"tags.`key` = '{key}'")
    inorder = sorted(found, key=lambda model: (model.creation_timestamp, model.model_id))
    return inorder[0].model_id if inorder else None


def _registered(client: Any, model: str, run: str, subject: Subject) -> str:
    """The number of the registered version."""
    name = registered_name(subject)
    with suppress(Exception):  # it exists
        client.create_registered_model(
            name, description=f"Checkpoints of recipe={name}, a version for each key."
        )
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get("key") == subject.key:
            return str(version.version)
    made = client.create_model_version(
        name,
        f"models:/{model}",
        run_id=run,
        tags={"key": subject.key},
        model_id=model,
        description=subject.name,
    )
    client.set_logged_model_tags(model, {_VERSIONS: json.dumps([{"name": name, "version": made.version}])})
    return str(made.version)


def registered_name(subject: Subject) -> str:
    """What the registered model of a checkpoint's recipe is called."""
    return _plain(subject.recipe or "checkpoint")


def _plain(name: str) -> str:
    return re.sub(r"[^\w-]+", "-", name)


def set_alias(client: Any, subject: Subject, version: str, alias: str, holds: bool, why: str) -> None:
    """Give a version an alias, or take it away if this version has it; `why` is kept as the version's tag."""
    name = registered_name(subject)
    aliases = client.get_model_version(name, version).aliases
    client.set_model_version_tag(name, version, alias, why)
    if holds:
        client.set_registered_model_alias(name, alias, version)
    elif alias in aliases:
        client.delete_registered_model_alias(name, alias)
