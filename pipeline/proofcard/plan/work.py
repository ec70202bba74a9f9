"""What calibration takes: tokens, products, memory and disk. Everything is an upper bound or says so."""

from math import prod

from proofcard.config.schema import QuantizeConfig
from proofcard.documents.plan import CoverageRow, Memory, PerExpert, Work
from proofcard.plan.weights import Inventory

SAMPLES = (512, 1500, 5000, 30000)  # the rows of the card's table
AS_RUN = 512  # tokens that the card's code cut every sample to


def work(config: QuantizeConfig, inventory: Inventory) -> Work:
    """Samples, positions, positions an expert sees, FLOP of both passes, memory and disk in bytes.

    Positions count every sample at its full length: shorter ones make all of it less.
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
        flop_forced_modelopt=forced * 3 // 2,  # it computes an expert's third product as well
        coverage_table=coverage_table(inventory, calibration.sequence_length),
        memory=memory(config, inventory, samples),
    )


def share(inventory: Inventory) -> float:
    """Part of the tokens that the router sends to an expert, on average; 1 without experts."""
    chosen = inventory.outline.config.get("num_experts_per_tok")
    return chosen / inventory.experts if inventory.experts and chosen else 1.0


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
    """Positions an expert sees, by samples: as the router sends them and when all experts are forced."""
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
    """FLOP of the routed pass, and of the forced pass that follows it where the recipe asks for one.

    Two for each weight of a product and position; scores and values of attention over half the sequence on
    average; the output head never runs. The forced pass leaves out an expert's last product: its output
    decides nothing. An expert's projections are of one size. Sequences are
    `length` long, the recipe's without it.
    """
    said = inventory.outline.config
    part = share(inventory)
    inside = [kind for kind in inventory.kinds if "lm_head" not in kind.kind]
    experts = sum(kind.parameters for kind in inside if ".experts." in kind.kind)
    others = sum(kind.parameters for kind in inside) - experts
    heads = int(said["num_attention_heads"])
    width = int(said.get("head_dim") or said["hidden_size"] // heads)
    attention = (
        2 * int(said["num_hidden_layers"]) * heads * width * (length or config.calibration.sequence_length)
    )
    routed = positions * (2 * (others + int(experts * part)) + attention)
    forced = 0
    if config.coverage.name == "all_experts":
        kinds = [kind for kind in inside if ".experts." in kind.kind]
        forced = positions * 2 * experts * (len(kinds) - 1) // max(len(kinds), 1)
    return routed, forced


def memory(config: QuantizeConfig, inventory: Inventory, samples: int) -> Memory:
    """Bytes of memory and disk, for both engines.

    layerwise: a GPU holds a layer in BF16 and the next one that is coming in, and the work of one batch,
    which is not counted; the host holds the hidden states that fit, and without a GPU the layer.
    modelopt: the whole model in BF16, on GPU and host together.
    """
    calibration, said = config.calibration, inventory.outline.config
    source = sum(tensor.size for tensor in inventory.outline.tensors.values())
    hidden = samples * calibration.sequence_length * int(said["hidden_size"]) * 2
    layer = 2 * largest_layer(inventory)
    kept = 2 * hidden if 2 * hidden <= config.hardware.activation_memory_gib * 2**30 else 0
    export = sum(inventory.file_bytes.values())
    return Memory(
        source=source,
        export=export,
        layer=layer,
        layerwise_gpu=2 * layer,
        layerwise_host=kept,
        layerwise_host_without_gpu=kept + layer,
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
