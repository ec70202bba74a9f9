"""Datasets as MLflow's inputs. Of a digest it keeps 36 characters: all 64 are a tag, and in the source."""

from typing import Any

CONTEXT = "mlflow.data.context"


def entries(digests: dict[str, Any], configured: dict[str, Any], context: str) -> list[Any]:
    """Inputs of a run: each dataset with what it is for, its full sha256, and where its rows come from.

    `digests` has a `digest` for each name, `configured` the fields of `config.schema.Dataset`.
    """
    made = []
    for name, dataset in digests.items():
        fields = configured.get(name, {})
        known = {key: fields.get(key) for key in ("repository", "revision", "subset")}
        origin = {key: str(value) for key, value in known.items() if value is not None}
        if fields.get("splits"):
            origin["splits"] = ",".join(fields["splits"])
        made.append(entry(name, str(dataset["digest"]), context, origin))
    return made


def entry(name: str, sha256: str, context: str, origin: dict[str, str]) -> Any:
    """One input. `origin` is shown as its source."""
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import DatasetInput, InputTag

    source = CodeDatasetSource(tags=origin | {"sha256": sha256})
    dataset = MetaDataset(  # type: ignore[abstract]  # it is used as it is in MLflow's documentation
        source, name=name, digest=sha256[:36]
    )
    tags = [InputTag(CONTEXT, context), InputTag("sha256", sha256)]
    return DatasetInput(dataset=dataset._to_mlflow_entity(), tags=tags)
