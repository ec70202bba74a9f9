"""What evaluating the result would take, by the protocol of conf/evaluation/protocol.yaml."""

import yaml

from proofcard.bundle import bundled
from proofcard.config.evaluating import Evaluation
from proofcard.config.schema import QuantizeConfig
from proofcard.documents.plan import EvaluationWork
from proofcard.plan.weights import Inventory
from proofcard.plan.work import flop, largest_layer

DISK_RATE = 3e9  # bytes a second of the disk that the floor of reading assumes


def evaluation_work(config: QuantizeConfig, inventory: Inventory) -> EvaluationWork:
    """Texts at their full length through every run; sizes in bytes.

    Runs are the source, each candidate, and with experts two of replayed routes. A layer is computed once
    more to see what it adds by itself, and experts once more beside the source's. A GPU holds a layer of
    source and checkpoint in BF16, and the next ones coming in.
    """
    asked = Evaluation.model_validate(yaml.safe_load(bundled("conf/evaluation/protocol.yaml").read_text()))
    texts = asked.rows * len(config.calibration.datasets)
    positions = texts * asked.sequence_length
    formats = {"none": 0, "fp8": 1, "fp8_cast": 1, "fp8_affine": 2}
    runs = 3 + formats[config.kv_cache.format] + 2 * bool(inventory.experts)
    once, _ = flop(config, inventory, positions, asked.sequence_length)
    said = inventory.outline.config
    head = 2 * positions * int(said["hidden_size"]) * int(said["vocab_size"])
    layer = 2 * largest_layer(inventory)
    read = sum(tensor.size for tensor in inventory.outline.tensors.values()) + sum(
        inventory.file_bytes.values()
    )
    return EvaluationWork(
        texts=texts,
        positions=positions,
        runs=runs,
        flop=(runs + 1 + bool(inventory.experts)) * once + runs * head,
        gpu=4 * layer,
        host_without_gpu=2 * layer,
        disk=2 * 2 * positions * int(said["hidden_size"]) * runs,
        read=read,
        reading_floor_hours=read / DISK_RATE / 3600,
    )
