{
  description = "A stand-in for pyproject.nix: a package set, and environments that the host's uv installs";

  outputs = _: {
    build.packages = import ./packages.nix;
  };
}
