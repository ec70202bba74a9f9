"""Reads a checkpoint's tensors for `verify`: problems with a file become findings."""

from contextlib import suppress
from pathlib import Path

from proofcard.checkpoint.shards import INDEX, BadIndex, MissingShards, loaded_instead, weight_files
from proofcard.checkpoint.tensors import Tensor, check_amount, read_header
from proofcard.errors import Stop, one_line
from proofcard.files import Unreadable
from proofcard.json_files import JsonError
from proofcard.verify.report import Finding


def read_tensors(folder: Path) -> tuple[dict[str, Tensor], list[Finding]]:
    """Every tensor in weight files with a readable header, and findings for the others.

    Missing files of the index are one finding, and make the result `incomplete`.

    Raises:
        Unreadable: when one of them may not be read.
        TensorFileError: when there are too many tensors.
    """
    tensors: dict[str, Tensor] = {}
    findings = []
    try:
        paths = weight_files(folder)
    except Unreadable:
        raise
    except MissingShards as error:
        return {}, [Finding("missing", str(error), file=INDEX)]
    except Stop as error:
        file = INDEX if isinstance(error, BadIndex | JsonError) else None
        findings.append(Finding("mismatched", one_line(error, checkpoint=folder), file=file))
        paths = sorted(folder.glob("*.safetensors"))
    modules = 0
    for path in paths:
        try:
            own = read_header(path)
        except Unreadable:
            raise
        except Stop as error:
            why = one_line(error, checkpoint=folder)
            findings.append(Finding("mismatched", f"its header cannot be read: {why}", file=path.name))
            continue
        for name in sorted(tensors.keys() & own.keys()):
            message = f"it is in {tensors[name].path.name} and again in {path.name}"
            findings.append(Finding("extra", message, file=path.name, tensor=name))
        tensors |= own
        modules = check_amount(tensors, own, modules)
    return tensors, findings


def incomplete(findings: list[Finding]) -> bool:
    """Whether weight files are missing, from which all other findings would follow."""
    return any(finding.kind == "missing" and finding.file == INDEX for finding in findings)


def not_counted(folder: Path, tensors: dict[str, Tensor]) -> list[str]:
    """A note on safetensors files that are not part of the weights, if any."""
    counted = {tensor.path.name for tensor in tensors.values()}
    others = sorted(path.name for path in folder.glob("*.safetensors") if path.name not in counted)
    if not others:
        return []
    which = f"{others[0]} is" if len(others) == 1 else f"{others[0]} and {len(others) - 1} more are"
    notes = [f"{which} in no index and was not checked"]
    with suppress(Stop):  # an invalid index has a finding
        if other := loaded_instead(folder):
            notes.append(f"transformers would load {other} instead")
    return notes
