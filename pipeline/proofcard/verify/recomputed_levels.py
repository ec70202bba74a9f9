"""The two levels that need the extra `quantize`: checks their inputs before anything heavy is imported."""

from pathlib import Path

from proofcard.checkpoint.source import Source
from proofcard.config.schema import VerifyConfig
from proofcard.documents.manifest import Manifest
from proofcard.verify.report import Level


def check_samples(folder: Path, config: VerifyConfig, sealed: Manifest | None) -> Level:
    """Level `samples` of the sample set that is given, with the source's tokenizer, else the checkpoint's."""
    if config.samples is None:
        return Level("samples", unchecked=["it needs samples=DIR, the sealed sample set"])
    from proofcard.verify import samples

    body = sealed.values() if sealed is not None else None
    tokenizer = config.source if isinstance(config.source, Path) else folder
    return samples.check(config.samples, tokenizer, config.datasets, body, config.work_dir)


def check_calibration(
    folder: Path,
    source: Source | None,
    refused: str | None,
    config: VerifyConfig,
    sealed: Manifest | None,
) -> Level:
    """Level `calibration`: recomputed from the manifest, or, without one, tested with given texts."""
    if source is None:
        return Level("calibration", unchecked=[refused or "it needs source=DIR"])
    if sealed is not None and config.texts is None:
        from proofcard.reproduce import recorded
        from proofcard.verify import calibration

        return calibration.check(source, config, recorded.of(sealed, folder))
    if config.texts is None:
        why = "it was never sealed, so its samples are unknown: texts=FILE tests its scales with other text"
        return Level("calibration", unchecked=[why])
    from proofcard.verify import percentiles

    return percentiles.check(folder, source, config.texts)
