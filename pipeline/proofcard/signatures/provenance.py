"""What a checkpoint was made from, by what and how, as SLSA provenance v1: a function of its manifest.

Specification: slsa.dev/spec/v1.1/provenance. Whoever checks a signature computes it from the manifest again.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop
from proofcard.files import plain
from proofcard.signatures.statement import exact

BUILD_TYPE = "urn:proofcard:build:1"

Values = Mapping[str, Any]


def provenance(sealed: Manifest, builder: str) -> dict[str, Any]:
    """The predicate. `builder` is the URI of who made the checkpoint.

    Raises:
        Stop: when the manifest does not list what `quantize` lists.
    """
    toolchain = sealed.toolchain
    try:
        dependencies = list(_dependencies(sealed))
    except (AttributeError, KeyError, TypeError) as error:
        raise Stop(f"the manifest has no {plain(error)}: it is not one that `quantize` wrote") from None
    return exact(
        {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"stage": sealed.stage, "configuration": sealed.config},
                "internalParameters": {
                    "key": sealed.key,
                    "seeds": sealed.seeds,
                    "platform": sealed.platform,
                    "environment": toolchain.get("environment"),
                },
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {"id": builder, "version": {"proofcard": str(toolchain.get("code"))}},
                "metadata": {"invocationId": f"urn:proofcard:key:{sealed.key}"},
            },
        }
    )


def _dependencies(sealed: Manifest) -> Iterator[dict[str, Any]]:
    """Resource descriptors: source, datasets and tokenizer by file, the lock, packages, patches."""
    model, inputs, toolchain = sealed.config["model"], sealed.inputs, sealed.toolchain
    yield from _files("source", inputs["source"]["files"], _hub("", model["repository"], model["revision"]))
    samples = inputs["samples"]
    yield {"name": "samples", "digest": {"sha256": samples["digest"]}}
    drawn = samples.get("inputs", {})  # older manifests have the digest alone
    for name, dataset in drawn.get("datasets", {}).items():
        at = sealed.config["calibration"]["datasets"][name]
        yield from _files(
            f"datasets/{name}", dataset["files"], _hub("datasets/", at["repository"], at["revision"])
        )
    yield from _files("tokenizer", drawn.get("tokenizer", {}))
    yield {"name": "uv.lock", "digest": {"sha256": toolchain["lock"]}}
    for name, version in sorted(toolchain["packages"].items()):
        yield {"name": name, "uri": f"pkg:pypi/{name}@{version}"}
    yield from _patches(toolchain.get("patches"))


def _patches(patches: Values | None) -> Iterator[dict[str, Any]]:
    """The patched package, its patches, and each changed file before and after."""
    if not patches:
        return
    package = f"pkg:pypi/{patches['package']}@{patches['version']}"
    yield {"name": patches["package"], "uri": package, "annotations": {"series": patches["series"]}}
    for patch in patches["patches"]:
        yield {"name": f"patches/{patch['file']}", "digest": {"sha256": patch["sha256"]}}
    for name, digests in sorted(patches["files"].items()):
        for when in ("before", "after"):
            if digests.get(when) is not None:
                yield {
                    "name": f"{patches['package']}/{name}",
                    "digest": {"sha256": digests[when]},
                    "annotations": {"patches": when},
                }


def _files(prefix: str, entries: Values, uri: str | None = None) -> Iterator[dict[str, Any]]:
    """One descriptor for each file. Of small files the hub gives the id of Git's blob alone."""
    for name, entry in sorted(entries.items()):
        place = {} if uri is None else {"uri": uri}
        digest = {"sha256": entry["sha256"]} if "sha256" in entry else {"gitBlob": entry["git_sha1"]}
        yield {"name": f"{prefix}/{name}", "digest": digest} | place


def _hub(kind: str, repository: str | None, commit: str | None) -> str | None:
    """Where on the hub, if the configuration pins a commit."""
    return f"hf://{kind}{repository}@{commit}" if repository and commit else None
