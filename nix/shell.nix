# `nix develop`: the test environment, the checkout's own code first.
{ pkgs, environments }:
pkgs.mkShell {
  packages = [
    environments.develop
    pkgs.git
    pkgs.gnumake
    pkgs.nixfmt-tree
    pkgs.uv
  ];
  shellHook = ''
    export PYTHONPATH=$(git rev-parse --show-toplevel)/pipeline
    . ${./driver.sh}
  '';
}
