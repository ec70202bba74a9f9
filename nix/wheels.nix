# Wheels find their siblings' libraries, and the driver where NixOS has it. uv2nix has each wheel's shared objects
# patched already; what it cannot know is in libraries.toml.
{ lib, pkgs }:
final: previous:
let
  libraries = lib.importTOML ./libraries.toml;
  driver = "/run/opengl-driver/lib"; # elsewhere driver.sh finds it
  cuda = lib.filter (name: lib.hasPrefix "nvidia-" name) (lib.attrNames previous);
  needing = lib.filter (name: previous ? ${name}) (
    cuda
    ++ lib.attrNames libraries.wheels
    ++ [
      "nvidia-cutlass-dsl-libs-base"
      "pynvvideocodec"
      "triton"
    ]
  );

  connected =
    name:
    let
      listed = libraries.wheels.${name} or { };
      siblings = map (sibling: final.${sibling}) (
        lib.filter (sibling: previous ? ${sibling}) (listed.siblings or [ ])
      );
    in
    previous.${name}.overrideAttrs (old: {
      buildInputs =
        (old.buildInputs or [ ])
        ++ [ (lib.getLib pkgs.stdenv.cc.cc) ]
        ++ lib.optional (listed.python or false) pkgs.python312;
      autoPatchelfIgnoreMissingDeps = libraries.driver ++ (listed.optional or [ ]);
      preFixup = (old.preFixup or "") + ''
        appendRunpaths='$ORIGIN'" ${driver}"
        for sibling in ${lib.concatStringsSep " " siblings}; do
          for folder in $(find "$sibling" -name '*.so*' -printf '%h\n' | sort -u); do
            addAutoPatchelfSearchPath "$folder"
            appendRunpaths="$appendRunpaths $folder"
          done
        done
      '';
    });

  # Source distributions, which say nothing of their build system.
  sources = lib.filter (name: previous ? ${name}) [
    "antlr4-python3-runtime"
    "rouge-score"
    "sqlitedict"
    "word2number"
  ];
  built =
    name:
    previous.${name}.overrideAttrs (old: {
      nativeBuildInputs =
        (old.nativeBuildInputs or [ ]) ++ final.resolveBuildSystem { setuptools = [ ]; };
    });

  # Its files have to be the released ones, byte for byte: the patch series are held against them.
  nvidia-modelopt = previous.nvidia-modelopt.overrideAttrs { dontPatchShebangs = true; };
in
lib.genAttrs needing connected
// lib.genAttrs sources built
// lib.optionalAttrs (previous ? nvidia-modelopt) { inherit nvidia-modelopt; }
