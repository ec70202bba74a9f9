# `nix flake check`: every environment builds, every series applies, every configuration composes, the tests pass.
{
  pkgs,
  environments,
  patched,
}:
let
  tested =
    name: folder:
    pkgs.runCommand "proofcard-${name}"
      {
        nativeBuildInputs = [
          environments.develop
          pkgs.git
          pkgs.gnumake
        ];
      }
      ''
        cp -r ${../.} checkout
        chmod -R u+w checkout
        cd checkout
        export HOME=$PWD PYTHONPATH=$PWD/pipeline
        pytest -n "$NIX_BUILD_CORES" --dist loadfile ${folder}
        touch $out
      '';
in
{
  environment-quantize = environments.quantize;
  environment-serve = environments.serve;
  environment-vllm = environments.vllm;
  environment-bench = environments.bench;
  patches-as-published = patched.as_published;
  patches-fixed = patched.fixed;
  configurations = tested "configurations" "tests/config";
  tests = tested "tests" "tests";
}
