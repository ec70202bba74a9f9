# One virtual environment for each way of resolving uv.lock: the extras exclude one another, so each gets a
# package set of its own.
{ inputs, pkgs }:
let
  inherit (inputs.nixpkgs) lib;
  root = ../.;
  lock = lib.importTOML ../uv.lock;
  libraries = lib.importTOML ./libraries.toml;
  workspace = inputs.uv2nix.lib.workspace.loadWorkspace {
    workspaceRoot = root;
    # A field of newer locks that uv2nix refuses; it repeats what pyproject.toml says.
    uvLock = lock // {
      package = map (package: newestFirst (removeAttrs package [ "default-groups" ])) lock.package;
    };
  };

  # Of wheels that differ in their platform only, uv takes the one for the newest C library and one for every
  # platform last; uv2nix takes the first. As they are locked, soundfile came without the library that it opens.
  newestFirst =
    package:
    package
    // lib.optionalAttrs (package ? wheels) {
      wheels = lib.sort (one: other: libc one > libc other) package.wheels;
    };
  libc =
    wheel:
    let
      minor = builtins.match ".*manylinux_2_([0-9]+)_x86_64.*" wheel.url;
    in
    if lib.hasSuffix "-any.whl" wheel.url then
      0
    else if minor == null then
      1
    else
      lib.toInt (lib.head minor);

  # What the project's wheel is built from: a change of anything else does not rebuild an environment.
  source = lib.fileset.toSource {
    inherit root;
    fileset = lib.fileset.unions [
      ../pyproject.toml
      ../uv.lock
      ../README.md
      ../LICENSE
      ../NOTICE
      ../pipeline
      ../conf
      ../demo
      ../patches
    ];
  };

  ours = _: previous: {
    proofcard = previous.proofcard.overrideAttrs { src = source; };
  };

  environment =
    name: parts:
    let
      base = pkgs.callPackage inputs.pyproject-nix.build.packages { python = pkgs.python312; };
      set = base.overrideScope (
        lib.composeManyExtensions [
          inputs.build-system-pkgs.overlays.wheel
          (workspace.mkPyprojectOverlay {
            sourcePreference = "wheel";
            dependencies.proofcard = parts;
          })
          (import ./wheels.nix { inherit lib pkgs; })
          ours
        ]
      );
    in
    (set.mkVirtualEnv "proofcard-${name}-env" { proofcard = parts; }).overrideAttrs {
      venvIgnoreCollisions = map (file: "lib/python*/site-packages/${file}") libraries.collisions;
    };
in
{
  quantize = environment "quantize" [
    "quantize"
    "serve-cpu"
    "sign"
    "tracking"
  ];
  serve = environment "serve" [ "serve" ];
  vllm = environment "vllm" [ "vllm" ];
  bench = environment "bench" [ "bench" ];
  develop = environment "develop" [
    "quantize"
    "serve-cpu"
    "sign"
    "tracking"
    "dev"
  ];
}
