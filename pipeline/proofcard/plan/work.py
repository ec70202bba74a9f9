"""The cost of calibration: tokens, FLOP, memory and disk. Upper bounds unless noted."""

from math import prod

from proofcard.config.schema import QuantizeConfig
from proofcard.documents.plan import CoverageRow, Memory, PerExpert, Work
from proofcard.plan.weights import Inventory

SAMPLES = (512, 1500, 5000, 30000)  # the rows of the card's table
AS_RUN = 512  # tokens to which the card's code truncated every sample


def work(config: QuantizeConfig, inventory: Inventory) -> Work:
    """Samples, positions, positions per expert, FLOP of both passes, memory and disk in bytes.

    Positions assume that every sample has the full length; shorter ones reduce everything.
    """
    calibration = config.calibration
    samples = sum(dataset.samples for dataset in calibration.datasets.values())
    positions = samples * calibration.sequence_length
    routed, forced = flop(config, inventory, positions)
    return Work(
        samples=samples,
        positions=positions,
        positions_per_expert=_per_expert(config, inventory, positions),
        flop_routed=routed,
        flop_forced=forced,
        flop_forced_modelopt=forced * 3 // 2,  # it also computes an expert's third product
        coverage_table=coverage_table(inventory, calibration.sequence_length),
        memory=memory(config, inventory, samples),
    )


def share(inventory: Inventory) -> float:
    """Average share of tokens that the router sends to an expert; 1 without experts."""
    top_k = inventory.outline.config.get("num_experts_per_tok")
    return top_k / inventory.experts if inventory.experts and top_k else 1.0


def _per_expert(config: QuantizeConfig, inventory: Inventory, positions: int) -> PerExpert | None:
    if not inventory.experts:
        return None
    natural = int(positions * share(inventory))
    least = config.coverage.minimum_tokens or 0
    seen = {
        "natural": natural,
        "all_experts": positions,
        "top_up": natural if natural >= least else positions,
    }
    return PerExpert(routed=natural, seen=seen[config.coverage.name])


def coverage_table(inventory: Inventory, length: int) -> list[CoverageRow]:
    """Positions per expert by number of samples: as routed, and when all experts are forced."""
    if not inventory.experts:
        return []
    part = share(inventory)
    return [
        CoverageRow(
            samples=samples,
            positions=samples * length,
            routed=int(samples * length * part),
            forced=samples * length,
            routed_as_run=int(samples * AS_RUN * part),
            forced_as_run=samples * AS_RUN,
        )
        for samples in SAMPLES
    ]


def flop(
    config: QuantizeConfig, inventory: Inventory, positions: int, length: int | None = None
) -> tuple[int, int]:
    """FLOP of the routed pass, and of the forced pass after it if the recipe has one.

    Two per weight and position; attention scores and values over half the sequence on
    average; the output head never runs. The forced pass skips an expert's last product: its output
    affects nothing. An expert's projections have the same size. Sequences are
    `length` tokens long, by default as in the recipe.
    """
    model_config = inventory.outline.config
    part = share(inventory)
    inside = [kind for kind in inventory.kinds if "lm_head" not in kind.kind]
    experts = sum(kind.parameters for kind in inside if ".experts." in kind.kind)
    others = sum(kind.parameters for kind in inside) - experts
    heads = int(model_config["num_attention_heads"])
    width = int(model_config.get("head_dim") or model_config["hidden_size"] // heads)
    attention = (
        2
        * int(model_config["num_hidden_layers"])
        * heads
        * width
        * (length or config.calibration.sequence_length)
    )
    routed = positions * (2 * (others + int(experts * part)) + attention)
    forced = 0
    if config.coverage.name == "all_experts":
        kinds = [kind for kind in inside if ".experts." in kind.kind]
        forced = positions * 2 * experts * (len(kinds) - 1) // max(len(kinds), 1)
    return routed, forced


def memory(config: QuantizeConfig, inventory: Inventory, samples: int) -> Memory:
    """Bytes of memory and disk, for both engines.

    layerwise: a GPU holds a layer in BF16, the next one being loaded, the screen's int8 weights where experts
    are forced, and the activations of one batch, which are not counted; the host holds the hidden states that
    fit, and without a GPU the layer.
    modelopt: the whole model in BF16, on GPU and host together.
    """
    calibration, model_config = config.calibration, inventory.outline.config
    source = sum(tensor.size for tensor in inventory.outline.tensors.values())
    hidden = samples * calibration.sequence_length * int(model_config["hidden_size"]) * 2
    layer = 2 * largest_layer(inventory)
    screen = layer // 2 if inventory.experts and config.coverage.name != "natural" else 0
    hidden_in_memory = 2 * hidden if 2 * hidden <= config.hardware.activation_memory_gib * 2**30 else 0
    export = sum(inventory.file_bytes.values())
    return Memory(
        source=source,
        export=export,
        layer=layer,
        layerwise_gpu=2 * layer + screen,
        layerwise_host=hidden_in_memory,
        layerwise_host_without_gpu=hidden_in_memory + layer,
        layerwise_disk=source + export + 2 * hidden,
        hidden_states=2 * hidden,
        modelopt_gpu_and_host=2 * inventory.parameters,
        modelopt_disk=source + export,
    )


def largest_layer(inventory: Inventory) -> int:
    """Parameters of the largest decoder layer."""
    layers: dict[str, int] = {}
    for name in inventory.outline.weights():
        before, _, after = name.partition(".layers.")
        if after:
            layer = f"{before}.{after.split('.', 1)[0]}"
            layers[layer] = layers.get(layer, 0) + prod(inventory.outline.tensors[name].shape)
    return max(layers.values(), default=0)
