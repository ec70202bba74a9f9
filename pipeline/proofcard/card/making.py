"""What the checkpoint is and how it was made: from the manifest, a plan, an analysis."""

from typing import Any

from proofcard.card.facts import MANIFEST, Facts, file_name, size, table, value
from proofcard.checkpoint.roles import role
from proofcard.config.compose import flatten
from proofcard.config.schema import QuantizeConfig
from proofcard.documents.card import Chart, Section

_SETTINGS = {
    "hidden_size": "Hidden size", "num_hidden_layers": "Layers", "num_attention_heads": "Attention heads",
    "num_key_value_heads": "KV heads", "head_dim": "Head dimension", "num_local_experts": "Experts per layer",
    "num_experts": "Experts per layer", "n_routed_experts": "Experts per layer",
    "num_experts_per_tok": "Experts per token", "intermediate_size": "Intermediate size",
    "moe_intermediate_size": "Expert intermediate size", "max_position_embeddings": "Context length",
    "vocab_size": "Vocabulary",
}  # fmt: skip

_CHOICES = {
    "calibration.samples": "Calibration samples", "calibration.datasets": "Calibration datasets",
    "calibration.sampling.method": "Sampling", "calibration.sampling.seed": "Sampling seed",
    "calibration.sequence_length": "Sequence length", "calibration.chat_template": "Chat template",
    "calibration.attention_mask": "Padding masked", "coverage.name": "Expert coverage",
    "kv_cache.format": "KV cache", "quantization.format": "Layers quantized",
    "quantization.dequantize_to": "Kept layers written in",
}  # fmt: skip


def model(facts: Facts) -> Section:
    """The architecture, from the sealed config.json."""
    values = [
        value("Architecture", facts.settings.get("architectures"), "derived", "config.json", "architectures")
    ]
    for key, name in _SETTINGS.items():
        if isinstance(facts.settings.get(key), int):
            values.append(value(name, facts.settings[key], "derived", "config.json", key))
    plan = facts.one("plan")
    if plan is not None:
        parameters = plan.values["model"]["parameters"]
        values.insert(1, value("Parameters", parameters, "derived", file_name(plan), "model.parameters"))
    text = "The quantized copy of a model; its architecture is unchanged."
    return Section(title="Model", intro=text, lines=values)


def quantized(facts: Facts) -> Section:
    """What is in NVFP4 and what is not, counted in the manifest."""
    groups: dict[tuple[str, str], list[int]] = {}
    for name, tensor in facts.sealed.outputs.tensors.items():
        count = groups.setdefault((role(name), tensor.dtype), [0, 0])
        count[0] += 1
        count[1] += _elements(tensor.shape)
    mark = facts.proven("integrity")
    rows = [[what, dtype, number, elements] for (what, dtype), (number, elements) in sorted(groups.items())]
    counts = table(["Tensors of", "Type", "Number", "Elements"], rows, mark, MANIFEST, "outputs.tensors")
    files = facts.sealed.outputs.files
    values = [
        value("Files", len(files), mark, MANIFEST, "outputs.files"),
        value("Size", size(sum(each.size for each in files.values())), mark, MANIFEST, "outputs.files"),
        value("Tensors", len(facts.sealed.outputs.tensors), mark, MANIFEST, "outputs.tensors"),
    ]
    one = facts.one("verification")
    if one is not None and (weights := one.values["levels"].get("weights", {}).get("counts")):
        linears = weights.get("quantized linears")
        pointer = "levels.weights.counts"
        values.append(value("Linears in NVFP4", linears, facts.proven("weights"), file_name(one), pointer))
    if facts.quantization:
        name = "hf_quant_config.json"
        for key, what in (("quant_algo", "Format"), ("group_size", "Weights per block scale"),
                          ("kv_cache_quant_algo", "KV cache")):  # fmt: skip
            values.append(value(what, facts.quantization.get(key), "derived", name, f"quantization.{key}"))
    text = (
        "NVFP4 stores a weight in 4 bits (E2M1), with an E4M3 scale for each block of 16 and a float32 scale "
        "for each tensor. U8 tensors hold two weights per element; all others are not quantized."
    )
    return Section(title="What is quantized", intro=text, lines=values, tables=[counts])


def _elements(shape: list[int]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


_KV = {
    "fp8": "Each layer has one k_scale and one v_scale, calibrated, which SGLang and vLLM load.",
    "fp8_affine": "Each layer has one calibrated k_scale and v_scale, and biases per KV head and channel. No "
    "engine loads the biases: SGLang drops them and may clip large K values, vLLM refuses the checkpoint.",
    "fp8_cast": "KV scales are constants; nothing of the KV cache was calibrated.",
    "none": "The checkpoint holds no KV scales: keep the KV cache in BF16.",
}


def kv_cache(facts: Facts) -> Section:
    """The scales of the KV cache, and which engine takes them."""
    kv = str(facts.config["kv_cache"]["format"])
    tensors = [name for name in facts.sealed.outputs.tensors if role(name).startswith("KV cache")]
    values = [
        value("Format", kv, facts.remade(), MANIFEST, "config.kv_cache.format"),
        value("Tensors", len(tensors), facts.proven("integrity"), MANIFEST, "outputs.tensors"),
    ]
    return Section(title="KV cache", intro=_KV.get(kv, ""), lines=values)


def choices(facts: Facts, default: QuantizeConfig) -> Section:
    """The recipe beside ModelOpt's defaults."""
    ours, theirs = _chosen(facts.config), _chosen(default.identity())
    rows = [
        [name, theirs.get(key), ours.get(key), "" if ours.get(key) == theirs.get(key) else "differs"]
        for key, name in _CHOICES.items()
    ]
    header = ["Choice", "ModelOpt's default", "This checkpoint", ""]
    text = "ModelOpt's defaults are those of recipe=modelopt_default."
    compared = table(header, rows, facts.remade(), MANIFEST, "config")
    return Section(title="Choices and the usual defaults", intro=text, tables=[compared])


def _chosen(config: dict[str, Any]) -> dict[str, Any]:
    datasets = config["calibration"]["datasets"]
    return flatten(config) | {
        "calibration.samples": sum(each["samples"] for each in datasets.values()),
        "calibration.datasets": len(datasets),
    }


def data(facts: Facts) -> Section:
    """The calibration datasets and how samples were drawn from them."""
    calibration = facts.config["calibration"]
    rows = [
        [name, each["repository"], each["revision"] or "local copy", each["splits"], each["samples"]]
        for name, each in calibration["datasets"].items()
    ]
    header = ["Dataset", "Repository", "Commit", "Splits", "Samples"]
    mark = facts.remade()
    flat = flatten({key: each for key, each in calibration.items() if key != "datasets"})
    values = [value(key, each, mark, MANIFEST, f"config.calibration.{key}") for key, each in flat.items()]
    samples = facts.sealed.inputs.get("samples")
    if isinstance(samples, dict):
        values.append(value("Sample set", samples.get("key"), mark, MANIFEST, "inputs.samples.key"))
    for key in ("samples", "tokens", "positions"):
        if key in facts.sealed.statistics:
            values.append(
                value(f"{key} used", facts.sealed.statistics[key], "measured", MANIFEST, f"statistics.{key}")
            )
    datasets = table(header, rows, mark, MANIFEST, "config.calibration.datasets")
    text = "The sample set is sealed under its own key; positions count padding."
    return Section(title="Calibration data", intro=text, lines=values, tables=[datasets])


def coverage(facts: Facts) -> Section:
    """What calibration saw and what it decided, from `analyse`."""
    title = "Calibration coverage and convergence"
    one = facts.one("analysis")
    if one is None:
        return Section(title=title, intro="", command="proofcard analyse checkpoint=DIR")
    analysis, file = one.values, file_name(one)
    values = [
        value(
            "Bytes of tensors that calibration decides",
            analysis["bytes"]["bytes"],
            "measured",
            file,
            "bytes.bytes",
        ),
        value("Bytes of tensors in all", analysis["bytes"]["total"], "measured", file, "bytes.total"),
    ]
    spread = analysis["coverage"]
    if spread is not None:
        for key, name in (
            ("experts", "Experts"), ("smallest", "Positions of the coldest expert"),
            ("tenth_percentile", "Positions, tenth percentile"), ("mean", "Positions, mean"),
            ("largest", "Positions of the hottest expert"),
            ("mean_over_tenth_percentile", "Mean over tenth percentile"),
            ("zipf", "Slope of log positions over log rank"),
        ):  # fmt: skip
            values.append(value(name, spread[key], "measured", file, f"coverage.{key}"))
        below = [[f"fewer than {int(mark):,}", count] for mark, count in spread["below"].items()]
        tables = [
            table(
                ["Positions", "Experts"],
                below,
                "measured",
                file,
                "coverage.below",
                "Experts with few positions",
            )
        ]
    else:
        tables = []
    marks: list[dict[str, Any]] = next(iter(analysis["convergence"].values()), [])
    chart = Chart(
        title="Share of amaxes within 1% of their last value", name="convergence",
        x=[float(mark["samples"]) for mark in marks], x_title="samples", y_title="share",
        series={
            name: [each["within_1_percent"] for each in group]
            for name, group in analysis["convergence"].items()
        },
        document=file,
    )  # fmt: skip
    text = (
        "Under max calibration the samples decide the scales of inputs and of the KV cache alone; the "
        "weights and their scales follow from the source."
    )
    return Section(title=title, intro=text, lines=values, tables=tables, charts=[chart])


def recipe(facts: Facts) -> Section:
    """What is needed to make it again: configuration, seeds, toolchain, patches, platform, command."""
    mark, sealed = facts.remade(), facts.sealed
    values = [value("Recipe", sealed.recipe, mark, MANIFEST, "config.recipe.name")]
    values += [
        value(f"Seed of {name}", seed, mark, MANIFEST, f"seeds.{name}") for name, seed in sealed.seeds.items()
    ]
    values += [
        value(name, text, mark, MANIFEST, f"toolchain.packages.{name}")
        for name, text in sealed.toolchain.get("packages", {}).items()
    ]
    for key, name in (("lock", "sha256 of uv.lock"), ("code", "Digest of the deciding code")):
        if key in sealed.toolchain:
            values.append(value(name, sealed.toolchain[key], mark, MANIFEST, f"toolchain.{key}"))
    source = sealed.inputs.get("source")
    if isinstance(source, dict):
        values.append(
            value("Source, digest of its files", source["digest"], mark, MANIFEST, "inputs.source.digest")
        )
    tables = [
        table(["Setting", "Value"], [[key, each] for key, each in sorted(flatten(sealed.config).items())
              if not key.startswith("calibration.datasets.")], mark, MANIFEST, "config", "Configuration"),
        *_patches(facts),
        table(["Platform", ""], [[key, each] for key, each in flatten(sealed.platform).items()], "derived",
              MANIFEST, "platform", "Numeric platform"),
    ]  # fmt: skip
    name = sealed.recipe or "NAME"
    code = [
        "git clone REPOSITORY-OF-PROOFCARD && cd proofcard && make setup",
        f"uv run proofcard quantize recipe={name} output_dir=OUT",
        "uv run proofcard reproduce checkpoint=DIR",
    ]
    text = "From the sealed manifest. The same recipe, inputs and toolchain give the same key."
    return Section(title="Recipe", intro=text, lines=values, tables=tables, code=code)


def _patches(facts: Facts) -> list[Any]:
    patched = facts.sealed.toolchain.get("patches")
    if not isinstance(patched, dict) or "patches" not in patched:
        return []
    where = f"{patched['package']} {patched['version']}, series {patched['series']}"
    rows = [[each["file"], each["sha256"]] for each in patched["patches"]]
    files = [[name, each["before"], each["after"]] for name, each in patched["files"].items()]
    mark, pointer = facts.remade(), "toolchain.patches"
    return [
        table(["Patch", "sha256"], rows, mark, MANIFEST, f"{pointer}.patches", f"Patches of {where}"),
        table(["Patched file", "sha256 before", "sha256 after"], files, mark, MANIFEST, f"{pointer}.files"),
    ]
