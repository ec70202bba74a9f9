{
  description = "proofcard: model cards you can prove";

  inputs = {
    nixpkgs.url = "github:nixos/nixpkgs/nixos-unstable";
    pyproject-nix = {
      url = "github:pyproject-nix/pyproject.nix";
      inputs.nixpkgs.follows = "nixpkgs";
    };
    uv2nix = {
      url = "github:pyproject-nix/uv2nix";
      inputs.pyproject-nix.follows = "pyproject-nix";
      inputs.nixpkgs.follows = "nixpkgs";
    };
    build-system-pkgs = {
      url = "github:pyproject-nix/build-system-pkgs";
      inputs.pyproject-nix.follows = "pyproject-nix";
      inputs.uv2nix.follows = "uv2nix";
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  outputs =
    inputs@{ nixpkgs, ... }:
    let
      system = "x86_64-linux"; # the only one that uv.lock resolves
      pkgs = nixpkgs.legacyPackages.${system};
      environments = import ./nix/environments.nix { inherit inputs pkgs; };
      commands = import ./nix/commands.nix { inherit inputs pkgs environments; };
      patched = import ./nix/patched.nix { inherit pkgs environments; };
      image = import ./nix/image.nix { inherit pkgs commands; };
    in
    {
      packages.${system} = {
        default = commands.programs.quantize;
        quantize-env = environments.quantize;
        serve-env = environments.serve;
        vllm-env = environments.vllm;
        bench-env = environments.bench;
        patched-modelopt = patched.all;
        inherit image;
      };

      apps.${system} = commands.apps // {
        default = commands.apps.quantize;
      };

      devShells.${system}.default = import ./nix/shell.nix { inherit pkgs environments; };

      checks.${system} = import ./nix/checks.nix {
        inherit
          pkgs
          environments
          patched
          ;
      };

      formatter.${system} = pkgs.nixfmt-tree;
    };
}
