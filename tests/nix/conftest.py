"""The checkout as a flake."""

import pytest
from nix.flakes import Flake


@pytest.fixture(scope="module")
def flake(tmp_path_factory: pytest.TempPathFactory) -> Flake:
    """The checkout with the stand-ins for its inputs."""
    return Flake(tmp_path_factory.mktemp("flake"))
