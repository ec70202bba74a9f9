"""`transformers serve` with a checkpoint's own classes and the model's name registered.

    python -m proofcard.serve.transformers_server --force-model=DIR --served-model-name=NAME OPTION…

transformers 4.57.6 looks up a model's class among its own, even with --trust-remote-code, so a checkpoint
with its own code (MiniMax-M2) ends in an AttributeError. Its digests were checked before this starts.
And its /v1/models lists a dozen models that it does not serve, but not the one that it serves.
"""

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from proofcard import garbage


def main() -> None:
    """Register the class and the name, then run the server."""
    garbage.look_seldom()
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    for option in ("--force-model", "--served-model-name"):
        parser.add_argument(option, required=True)
    options, rest = parser.parse_known_args()
    model, name = options.force_model, options.served_model_name
    config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    reference = config.get("auto_map", {}).get("AutoModelForCausalLM")
    # With scikit-learn transformers chooses how many tokens a second model drafts: nobody asks for one here,
    # and importing it takes a tenth of the start.
    sys.modules["sklearn"] = cast(ModuleType, None)
    from transformers.commands import serving, transformers_cli

    del sys.modules["sklearn"]
    if "--trust-remote-code" in sys.argv and reference:
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        found: Any = get_class_from_dynamic_module(reference, model)
        # Importing the command line makes a second module `transformers`: the server looks into its own.
        setattr(serving.transformers, found.__name__, found)
        serving.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[found.config_class.model_type] = found.__name__
    server: Any = serving.ServeCommand
    server.get_gen_models = lambda self: [{"id": name, "object": "model", "owned_by": "local"}]
    sys.argv = ["transformers", "serve", f"--force-model={model}", *rest]
    transformers_cli.main()


if __name__ == "__main__":
    main()
