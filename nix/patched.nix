# ModelOpt with each of the patch series of patches/, made and checked by the pipeline's own toolchain room.
{ pkgs, environments }:
let
  series =
    name:
    pkgs.runCommand "modelopt-${name}" { } ''
      mkdir -p $out
      ${environments.quantize}/bin/python -m proofcard.toolchain ${name} --root $out
      rm -f $out/.lock
    '';
  each = {
    as_published = series "as_published";
    fixed = series "fixed";
  };
in
each
// {
  all = pkgs.symlinkJoin {
    name = "patched-modelopt";
    paths = [
      each.as_published
      each.fixed
    ];
  };
}
