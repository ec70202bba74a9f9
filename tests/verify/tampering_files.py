"""Tamperings with the files beside the weights, and with the index."""

import json
from pathlib import Path
from typing import Any

from verify.tampered import CONFIG, INDEX, QUANT, Done, Random, write

_JSON = (CONFIG, QUANT, "generation_config.json", "tokenizer.json", "tokenizer_config.json")


def edit_json(folder: Path, chance: Random) -> Done:
    name = chance.choice(_JSON)
    content = json.loads((folder / name).read_text())
    path = chance.choice(_paths(content))
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    way = chance.choice(["change", "change", "remove"])
    old = holder[path[-1]]
    if way == "remove":
        del holder[path[-1]]
    else:
        holder[path[-1]] = _other(old, chance)
    write(folder / name, json.dumps(content, indent=1).encode())
    return Done(
        f"{way} {'.'.join(map(str, path))} of {name} (was {old!r})"[:200], _not_judged(name, path, old, way)
    )


def add_key(folder: Path, chance: Random) -> Done:
    name = chance.choice([CONFIG, "generation_config.json", "tokenizer_config.json", QUANT])
    key, value = chance.choice(
        [("sliding_window_size", 128), ("rope_parameters", {"rope_theta": 1.0, "rope_type": "linear"}),
         ("n_group", 4), ("auto_map_extra", {"A": "b.C"}), ("temperature", 0.1), ("quantize", True),
         ("attn_logit_softcapping", 30.0)]
    )  # fmt: skip
    content = json.loads((folder / name).read_text())
    inner = content["quantization"] if name == QUANT else content
    inner[key] = value
    write(folder / name, json.dumps(content, indent=1).encode())
    return Done(f"{key} in {name}")


def relayout_json(folder: Path, chance: Random) -> Done:
    name = chance.choice(_JSON)
    text = json.dumps(
        json.loads((folder / name).read_text()), indent=chance.choice([0, 3, 7]), sort_keys=True
    )
    write(folder / name, (text + "\n\n").encode())
    return Done(name, "same meaning")


def break_json(folder: Path, chance: Random) -> Done:
    name = chance.choice((*_JSON, INDEX))
    content = (folder / name).read_bytes()
    write(
        folder / name,
        chance.choice([content[:-3], b"", b"[]", b"{}", b"\xff" + content, content * 2, b"null"]),
    )
    return Done(name)


def edit_index(folder: Path, chance: Random) -> Done:
    content = json.loads((folder / INDEX).read_text())
    names = sorted(content["weight_map"])
    one = chance.choice(names)
    way = chance.choice(["remove", "add", "point", "metadata"])
    if way == "remove":
        del content["weight_map"][one]
    elif way == "add":
        content["weight_map"][f"{one}.more"] = content["weight_map"][one]
    elif way == "point":
        content["weight_map"][one] = chance.choice(["../x.safetensors", "x.safetensors", 5, None])
    else:
        content["metadata"]["total_size"] = chance.randrange(1 << 30)
    write(folder / INDEX, json.dumps(content).encode())
    return Done(f"{way} {one} in the index", "same tensors" if way == "metadata" else None)


def edit_text(folder: Path, chance: Random) -> Done:
    name = chance.choice(["chat_template.jinja", "configuration_x.py", "modeling_x.py"])
    content = bytearray((folder / name).read_bytes())
    at = chance.randrange(len(content) - 1)
    content[at] = (content[at] % 90) + 33 if content[at] != (content[at] % 90) + 33 else 33
    write(folder / name, bytes(content))
    return Done(f"byte {at} of {name}")


def remove_file(folder: Path, chance: Random) -> Done:
    name = chance.choice(sorted(path.name for path in folder.iterdir() if path.name != "manifest.json"))
    (folder / name).unlink()
    return Done(name, "left out" if name == QUANT else None)


def add_file(folder: Path, chance: Random) -> Done:
    name, unproven = chance.choice(
        [("pytorch_model.bin", None), ("model.pt", None), ("model.gguf", None), ("x.py", None),
         ("a/b.pyc", None), ("custom_generate/generate.py", None), ("more.safetensors", None),
         ("tokenizer.model", None),
         ("adapter_model.bin", None), ("preprocessor_config.json", None), ("README.md", "unread"),
         ("added_tokens.json", None), ("LICENSE", "unread"), ("additional_chat_templates/x.jinja", None),
         ("consolidated.00.pth", None), (".hidden", "unread"), ("merges.txt", None), ("x.so", None)]
    )  # fmt: skip
    content = b"{}" if name.endswith(".json") else b"text\n"
    if name.endswith(".safetensors"):
        content = next(iter(sorted(folder.glob("*.safetensors")))).read_bytes()
    write(folder / name, content)
    return Done(name, unproven)


def exchange_files(folder: Path, chance: Random) -> Done:
    one, other = chance.sample(sorted(p.name for p in folder.iterdir() if p.name != "manifest.json"), 2)
    first, second = (folder / one).read_bytes(), (folder / other).read_bytes()
    write(folder / one, second)
    write(folder / other, first)
    return Done(f"{one} and {other}")


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += _paths(inner, (*at, key))
    return found


def _other(value: Any, chance: Random) -> Any:
    """A value of another content, often of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return chance.choice([value + 1, value * 2 + 1, -value - 1, str(value), None])
    if isinstance(value, str):
        return chance.choice([f"{value}x", "", "a/b--c.D", 7])
    if isinstance(value, list):
        return chance.choice([[*value, "x"], value[:-1] if value else ["x"], "x"])
    if isinstance(value, dict):
        return chance.choice([value | {"x": 1}, "x"])
    return chance.choice([1, "x", True])


def _not_judged(name: str, path: tuple[Any, ...], old: Any, way: str) -> str | None:
    """Whether by rule this key of this file says nothing that counts."""
    top = path[0]
    if name == CONFIG and top == "transformers_version":
        return "unread"
    if (name, top) == (CONFIG, "dtype") and way == "remove":
        return "unread"
    if name == CONFIG and old is None and way == "remove":
        return "same meaning"  # null and no key are one
    if name == CONFIG and path[-1] in ("head_dim", "num_key_value_heads") and way == "remove":
        return "same meaning"  # what a class computes from hidden_size and num_attention_heads
    if "producer" in path and (path[-1] != "producer" or way == "remove"):
        return "unread" if name == QUANT or "quantization_config" in path else None
    if "producer" in path:
        return "unread"
    if name == CONFIG and path[-1] in ("group_size", "quant_method", "config_groups") and way == "remove":
        return None
    if name == "tokenizer.json" and top in ("version", "padding", "truncation"):
        return "unread"
    if name == "tokenizer.json" and old is None and way == "remove":
        return "same meaning"
    if name == "tokenizer_config.json" and top == "tokenizer_class":
        return "unread"  # one of the general classes, beside a tokenizer.json
    if name == QUANT and path[-1] in ("group_size",) and way == "remove":
        return "same meaning"  # config.json says it too
    return None
