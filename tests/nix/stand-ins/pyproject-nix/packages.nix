# The true one unpacks and patches every wheel in a derivation of its own. Here an environment is one derivation:
# uv resolves the same extras of the same lock and links the wheels of its cache, whose digests it has checked.
{
  lib,
  runCommand,
  python,
  host,
}:
let
  scope =
    overlay:
    let
      set = lib.fix (final: overlay final (base final));
    in
    set
    // {
      overrideScope = other: scope (lib.composeManyExtensions [ overlay other ]);
    };

  base = final: {
    inherit python;
    resolveBuildSystem = spec: map (name: "build-system ${name}") (lib.attrNames spec);
    mkVirtualEnv =
      name: spec:
      runCommand name
        {
          # Every package as the overlays have left it: whatever they say has to evaluate.
          packages = builtins.toJSON (
            lib.mapAttrs (_: package: removeAttrs package.attributes [ "src" ]) (
              lib.filterAttrs (_: value: value ? attributes) final
            )
          );
          passAsFile = [ "packages" ];
          source = final.proofcard.attributes.src;
          parts = lib.concatStringsSep " " (
            map (
              part: if final.proofcard.attributes.groups ? ${part} then "--group ${part}" else "--extra ${part}"
            ) spec.proofcard
          );
        }
        ''
          cp -r $source project
          chmod -R u+w project
          mkdir home
          HOME=$PWD/home UV_CACHE_DIR=${host.cache} UV_PROJECT_ENVIRONMENT=$out ${host.uv} sync --quiet \
            --project project --python ${host.python} --offline --frozen --no-editable --link-mode symlink $parts
          ${host.python} ${./bytecode.py} $out ${host.environment}
        '';
  };
in
scope (_: _: { })
