"""The bill of materials of a checkpoint, in CycloneDX 1.6: the model, its source, datasets and toolchain.

A function of the manifest: no time, and a serial number that follows from the key. The library has no class
for `modelCard`, so that part is added to what it writes, and the whole is held to its schema.
"""

import json
import uuid
from collections.abc import Iterator
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType, Patch, PatchClassification, Pedigree
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from packageurl import PackageURL

from proofcard import __version__
from proofcard.digest import readable_json
from proofcard.documents.manifest import Manifest
from proofcard.errors import Stop
from proofcard.files import plain

_NAMESPACE = uuid.UUID("8d3b1f0e-6a44-5a55-9b43-9d1f2b7c6e10")


def bom(sealed: Manifest, manifest_sha256: str) -> str:
    """The text of `bom.cdx.json`.

    Raises:
        Stop: when the manifest does not list what `quantize` lists, or CycloneDX's schema refuses it.
    """
    from cyclonedx.validation.json import JsonStrictValidator  # a second: it makes the grammars of all links

    try:
        values = _values(sealed, manifest_sha256)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Stop(
            f"no bill of materials can be made of the manifest: {plain(error) or 'an empty name'}"
        ) from None
    text = readable_json(values)
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if fault is not None:
        raise Stop(f"the bill of materials does not fit CycloneDX 1.6: {plain(fault, 400)}")
    return text


def _values(sealed: Manifest, manifest_sha256: str) -> dict[str, Any]:
    model, source = _model(sealed, manifest_sha256), _source(sealed)
    datasets, tools = list(_datasets(sealed)), list(_packages(sealed))
    made = Bom(
        serial_number=uuid.uuid5(_NAMESPACE, sealed.key),
        components=[source, *datasets, *tools, *_files(sealed)],
    )
    made.metadata.component = model
    made.metadata.tools = ToolRepository(
        components=[Component(name="proofcard", version=__version__, type=ComponentType.APPLICATION)]
    )
    made.register_dependency(model, [source, *datasets, *tools])
    values: dict[str, Any] = json.loads(JsonV1Dot6(made).output_as_string())
    del values["metadata"]["timestamp"]  # the same checkpoint gives the same bytes
    del values["version"]  # 1 by default; protobuf, in which it is signed, would make it 1.0
    values["metadata"]["component"]["modelCard"] = _card(sealed, datasets)
    return values


def _model(sealed: Manifest, manifest_sha256: str) -> Component:
    return Component(
        name=f"{sealed.config['model']['name']}-nvfp4",
        version=sealed.key[:12],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"urn:proofcard:key:{sealed.key}",
        description=f"recipe {sealed.recipe}, sealed by its manifest.json, whose digest is given",
        hashes=[_sha256(manifest_sha256)],
        properties=[
            Property(name=f"proofcard:{name}", value=str(value))
            for name, value in [
                *sealed.seeds.items(),
                ("key", sealed.key),
                ("code", sealed.toolchain["code"]),
            ]
        ],
    )


def _source(sealed: Manifest) -> Component:
    model, files = sealed.config["model"], sealed.inputs["source"]["files"]
    return Component(
        name=model["repository"] or model["name"],
        version=model["revision"],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="source",
        components=[_file(name, entry, "source") for name, entry in files.items()],
    )


def _datasets(sealed: Manifest) -> Iterator[Component]:
    """Datasets with their files; a manifest that has none of these gives their names alone."""
    read = sealed.inputs["samples"].get("inputs", {}).get("datasets", {})
    for name, asked in sealed.config["calibration"]["datasets"].items():
        files = read.get(name, {}).get("files", {})
        yield Component(
            name=asked["repository"],
            version=asked["revision"],
            type=ComponentType.DATA,
            bom_ref=f"dataset:{name}",
            properties=[
                Property(name="proofcard:samples", value=str(asked["samples"])),
                Property(name="proofcard:splits", value=",".join(asked["splits"])),
            ],
            components=[_file(file, entry, f"dataset:{name}") for file, entry in files.items()],
        )


def _packages(sealed: Manifest) -> Iterator[Component]:
    """Packages that decide bytes; the patched one with its patches."""
    for name, version in sealed.toolchain["packages"].items():
        yield _package(name, version, None)
    patches = sealed.toolchain.get("patches")
    if patches:
        changed = [
            f"{name}: sha256 {each['before']} -> {each['after']}" for name, each in patches["files"].items()
        ]
        applied = [f"{each['file']}: sha256 {each['sha256']}" for each in patches["patches"]]
        pedigree = Pedigree(
            ancestors=[_package(patches["package"], patches["version"], None, "unpatched:")],
            patches=[Patch(type=PatchClassification.UNOFFICIAL)],
            notes=f"series {patches['series']}\n" + "\n".join([*applied, *changed]),
        )
        yield _package(patches["package"], patches["version"], pedigree)


def _package(name: str, version: str, pedigree: Pedigree | None, prefix: str = "") -> Component:
    purl = PackageURL("pypi", None, name, version)
    return Component(
        name=name, version=version, type=ComponentType.LIBRARY, purl=purl,
        bom_ref=f"{prefix}{purl.to_string()}", pedigree=pedigree,
    )  # fmt: skip


def _files(sealed: Manifest) -> Iterator[Component]:
    for name, entry in sealed.outputs.files.items():
        yield _file(name, {"sha256": entry.sha256}, "file")


def _file(name: str, entry: dict[str, Any], prefix: str) -> Component:
    """Of small files the hub gives the id of Git's blob alone, which CycloneDX has no algorithm for."""
    hashes = [_sha256(entry["sha256"])] if "sha256" in entry else []
    return Component(name=name, type=ComponentType.FILE, bom_ref=f"{prefix}/{name}", hashes=hashes)


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _card(sealed: Manifest, datasets: list[Component]) -> dict[str, Any]:
    """CycloneDX's `modelCard`: what the model was calibrated with, and the choices of the recipe."""
    config = sealed.config
    chosen = {
        "quantization": config["quantization"]["format"],
        "kv_cache": config["kv_cache"]["format"],
        "coverage": config["coverage"]["name"],
        "engine": config["engine"]["name"],
    }
    return {
        "modelParameters": {
            "task": "text-generation",
            "datasets": [{"ref": str(each.bom_ref.value)} for each in datasets],
        },
        "properties": [{"name": f"proofcard:{name}", "value": str(value)} for name, value in chosen.items()],
    }
