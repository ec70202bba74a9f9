{
  description = "A stand-in for nixpkgs: just what this project asks of it, made from the host's programs";

  outputs = _: {
    lib = import ./lib.nix;
    legacyPackages.x86_64-linux = import ./packages.nix;
  };
}
