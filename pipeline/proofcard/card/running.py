"""Where the checkpoint runs, and how: hardware by plan, profiles of engines, sampling."""

from omegaconf import OmegaConf

from proofcard.bundle import bundled
from proofcard.card.facts import PROGRAM, Facts, file_name, short_size, table, value
from proofcard.documents.card import Section

_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "do_sample")


def hardware(facts: Facts) -> Section:
    """GPUs on which the result fits, from the plan."""
    title = "Hardware"
    one = facts.one("plan")
    if one is None:
        command = f"proofcard plan recipe={facts.sealed.recipe or 'NAME'}"
        return Section(title=title, intro="", command=command)
    rows = [
        [each["profile"], each["runs"], short_size(each["weights_per_gpu"]), each["fits"],
         each["kv_tokens"]["bf16"], each["kv_tokens"]["fp8"]]
        for each in one.values["serving"]
        if not str(each["profile"]).startswith("here:")
    ]  # fmt: skip
    header = ["GPUs", "NVFP4", "Weights per GPU", "Fits", "KV tokens, BF16", "KV tokens, FP8"]
    fits = table(header, rows, "derived", file_name(one), "serving")
    text = (
        "Computed, with 0.90 of the memory for weights and KV cache: upper bounds. W4A16: weights in 4 bits, "
        "products in BF16, on GPUs without FP4."
    )
    return Section(title=title, intro=text, tables=[fits])


def profiles(facts: Facts) -> Section:
    """Every serving profile with its summary and its command."""
    ran = {one.name: file_name(one) for one in facts.all_of("serving")}
    rows, code = [], []
    for path in sorted(bundled("conf/serving").glob("*.yaml")):
        profile = OmegaConf.load(path)
        name = str(profile.name)
        rows.append(
            [
                name,
                str(profile.engine),
                str(profile.summary),
                f"yes: {ran[name]}" if name in ran else "not by us",
            ]
        )
        code.append(f"proofcard serve checkpoint=DIR serving={name}")
    available = table(
        ["Profile", "Engine", "For", "Run with this checkpoint"], rows, "derived", PROGRAM, "conf/serving"
    )
    text = "A profile is one way to start an engine; before a start its flags, GPUs and memory are checked."
    return Section(title="How to run it", intro=text, tables=[available], code=code)


def sampling(facts: Facts) -> Section:
    """The sampling that the source's generation_config.json asks for."""
    name = "generation_config.json"
    values = [
        value(key, facts.generation[key], "derived", name, key)
        for key in _SAMPLING
        if key in facts.generation
    ]
    text = (
        "From the source's generation_config.json, which is sealed with the checkpoint."
        if values
        else "The source has no generation_config.json with sampling settings."
    )
    return Section(title="Sampling", intro=text, lines=values)


def backends(facts: Facts) -> Section:
    """Several backends side by side, from a sweep."""
    results = facts.all_of("benchmark")
    rows = [
        [one.name, (one.values["serving"] or {}).get("name"), flag, setting]
        for one in results
        for flag, setting in ((one.values["serving"] or {}).get("flags") or {}).items()
        if "backend" in flag
    ]
    if len(results) < 2 or not rows:
        swept = "serving.flags.attention-backend=triton,flashinfer"
        text = f"proofcard benchmark -m checkpoint=DIR serving=PROFILE {swept}"
        return Section(title="Backends", intro="", command=text)
    swept_flags = table(
        ["Benchmark", "Profile", "Flag", "Value"], rows, "measured", file_name(results[0]), "serving.flags"
    )
    return Section(title="Backends", intro="The benchmarks above differ in these.", tables=[swept_flags])
