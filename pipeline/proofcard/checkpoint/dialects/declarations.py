"""What makers call a quantization in config.json and hf_quant_config.json, and which of it is NVFP4.

| key | ModelOpt | llm-compressor, auto-round |
|---|---|---|
| quant_method | `MODELOPT` | `COMPRESSED` |
| quant_algo | `NVFP4` and its variants, `MIXED` | none: `config_groups` or `bits` say what each linear is |

`checkpoint.configuration` reads the files; `verify.quantconfig` reads everything else that they say.
"""

MODELOPT = frozenset({"modelopt", "modelopt_fp4", "modelopt_nvfp4", "modelopt_mixed"})
"""Methods of ModelOpt, in lower case. All but the first say NVFP4 by themselves."""

COMPRESSED = frozenset({"compressed-tensors", "auto-round"})
"""Methods of makers that store NVFP4 in the layout of compressed-tensors."""

NVFP4 = "NVFP4"
MIXED = "MIXED_PRECISION"
"""The algorithm of a checkpoint whose `quantized_layers` say what each linear is."""


def is_nvfp4(algorithm: str | None) -> bool:
    """Whether weights under this algorithm are stored in NVFP4: `NVFP4`, `W4A16_NVFP4`, `NVFP4_AWQ`…"""
    return algorithm is not None and NVFP4 in algorithm.upper()


def implied(method: str | None) -> str | None:
    """The algorithm that a method's name says where no algorithm is given; None where it says none."""
    return NVFP4 if method in MODELOPT - {"modelopt"} else None
