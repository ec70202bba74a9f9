import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `demo` is part of the repository, not of the installed package


@pytest.fixture(scope="session")
def model_folder():
    return ROOT / "demo" / "model"


@pytest.fixture(scope="session")
def config(model_folder):
    return json.loads((model_folder / "config.json").read_text())


@pytest.fixture(scope="session")
def tokenizer(model_folder):
    from demo import tokens

    return tokens.load(model_folder)


@pytest.fixture(scope="session")
def model(model_folder):
    """BF16, scaled-dot-product attention; tests must leave it as they found it."""
    from demo.perplexity import load_model

    return load_model(model_folder)


@pytest.fixture(scope="session")
def heldout(model_folder):
    from demo.perplexity import heldout_ids

    return heldout_ids(model_folder)
