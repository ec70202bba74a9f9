"""The layout of shards is transformers' and safetensors' own, byte for byte, whoever writes what when."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from running import contents, tiny
from safetensors.torch import load_file, save_file

from proofcard.checkpoint.writer import Entry, Writer, layout

NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.float8_e8m0fnu: "F8_E8M0",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint64: "U64",
    torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip

State = dict[str, torch.Tensor]


def entries(state: State) -> list[Entry]:
    return [Entry(name, NAMES[value.dtype], tuple(value.shape)) for name, value in state.items()]


def raw(value: torch.Tensor) -> np.ndarray:
    return value.contiguous().reshape(-1).view(torch.uint8).numpy()


def written(folder: Path, state: State, size: int, parameters: int = 0) -> dict[str, bytes]:
    """What our writer makes of a state dict whose tensors arrive in another order."""
    folder.mkdir()
    with Writer(folder, layout(entries(state), parameters, size)) as writer:
        writer.allocate()
        for name in sorted(state, key=lambda name: name[::-1]):
            writer.write(name, raw(state[name]))
    return contents(folder)


def saved(folder: Path, state: State, size: int) -> dict[str, bytes]:
    """What huggingface_hub's split and safetensors make of it."""
    folder.mkdir()
    split = split_torch_state_dict_into_shards(state, max_shard_size=size)
    for file, names in split.filename_to_tensors.items():
        save_file({name: state[name] for name in names}, folder / file, metadata={"format": "pt"})
    return contents(folder)


def mixed(seed: int) -> State:
    """Tensors of every dtype and of many sizes, scalars and an empty one among them, in a random order."""
    chosen = random.Random(seed)
    state: State = {}
    for number in range(60):
        shape = (0, 3) if number == 30 else chosen.choice([(), (1,), (7,), (5, 13), (16, 16), (3, 2, 11)])
        dtype = chosen.choice(list(NAMES))
        count = int(np.prod(shape)) * dtype.itemsize
        content = chosen.randbytes(count) if dtype != torch.bool else bytes(count)
        flat = torch.frombuffer(bytearray(content), dtype=torch.uint8) if count else torch.empty(0).byte()
        name = f"{chosen.choice(['layers', 'model.ä', 'B', '_'])}.{chosen.randrange(99)}.{number}"
        state[name] = flat.view(dtype).reshape(shape)
    return state


@pytest.mark.parametrize("size", [1, 64, 200, 512, 1000, 4000, 10**9])
@pytest.mark.parametrize("seed", [0, 1])
def test_any_state_dict_gets_the_files_of_the_libraries(tmp_path: Path, seed: int, size: int) -> None:
    state = mixed(seed)
    ours, theirs = written(tmp_path / "ours", state, size), saved(tmp_path / "theirs", state, size)
    index = ours.pop("model.safetensors.index.json", None)
    assert ours == theirs
    assert (index is None) == (len(ours) == 1)
    if index is not None:
        split = split_torch_state_dict_into_shards(state, max_shard_size=size)
        assert json.loads(index) == {
            "metadata": {"total_parameters": 0, "total_size": split.metadata["total_size"]},
            "weight_map": split.tensor_to_filename,
        }


def test_a_shard_may_be_exactly_full(tmp_path: Path) -> None:
    state = {name: torch.full((50,), 3.0) for name in ("b", "a", "d", "c", "e")}
    sizes = {size: len(written(tmp_path / f"ours{size}", state, size)) for size in (399, 400, 401)}
    assert sizes == {399: 5 + 1, 400: 3 + 1, 401: 3 + 1}
    for size in sizes:
        theirs = saved(tmp_path / f"theirs{size}", state, size)
        assert theirs.items() <= contents(tmp_path / f"ours{size}").items()


@pytest.mark.parametrize("size", [40_000, 300_000, 5 * 10**9])
def test_save_pretrained_writes_the_same_shards_and_index(demo: Path, tmp_path: Path, size: int) -> None:
    """A real NVFP4 state dict, four dtypes and scalars, through the call that ModelOpt's export makes."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(tiny(tmp_path / "source", "mixtral"))
    (path,) = demo.glob("*.safetensors")
    state = load_file(path)
    assert len({value.dtype for value in state.values()}) == 4
    names = list(state)
    random.Random(3).shuffle(names)
    state = {name: state[name] for name in names}
    model.save_pretrained(tmp_path / "theirs", state_dict=dict(state), max_shard_size=size)
    theirs = {name: text for name, text in contents(tmp_path / "theirs").items() if "config" not in name}
    assert len(theirs) == 1 if size > path.stat().st_size else len(theirs) > 3
    assert written(tmp_path / "ours", state, size, model.num_parameters()) == theirs


def test_many_hands_and_a_second_time_give_the_same_bytes(tmp_path: Path) -> None:
    state = mixed(2)
    once = written(tmp_path / "once", state, 1000)
    folder = tmp_path / "again"
    folder.mkdir()
    names = list(state)
    for part in (names[:20], names):  # the first ends on the way, the second begins anew
        with Writer(folder, layout(entries(state), 0, 1000)) as writer, ThreadPoolExecutor(4) as hands:
            writer.allocate()
            list(hands.map(lambda name: writer.write(name, raw(state[name])), part))
            writer.sync()
    assert contents(folder) == once


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    two = [Entry("a", "F32", (3,)), Entry("b", "U8", (4,))]
    with pytest.raises(ValueError, match="duplicate tensor name"):
        layout([*two, two[0]], 0)
    with Writer(tmp_path, layout(two, 0)) as writer:
        writer.allocate()
        with pytest.raises(ValueError, match="a has 8 bytes, but needs 12"):
            writer.write("a", np.zeros(2, np.float32))
        with pytest.raises(KeyError, match="c"):
            writer.write("c", np.zeros(2, np.float32))
