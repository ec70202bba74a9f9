# Names are followed, markers are not: of a package that is locked in two versions, either will do here, since
# uv itself resolves what is installed.
lock:
{
  sourcePreference,
  dependencies,
}:
let
  byName = builtins.listToAttrs (
    map (package: {
      inherit (package) name;
      value = package;
    }) lock.package
  );

  package =
    attributes:
    {
      inherit attributes;
      outPath = "${attributes.pname}-${attributes.version}";
      overrideAttrs =
        change:
        package (attributes // (if builtins.isFunction change then change attributes else change));
    };

  needs =
    name: parts:
    let
      found = byName.${name};
      groups = (found.optional-dependencies or { }) // (found.dev-dependencies or { });
    in
    (found.dependencies or [ ])
    ++ builtins.concatMap (part: groups.${part}) (builtins.filter (part: groups ? ${part}) parts);

  reached = builtins.genericClosure {
    startSet = map (name: {
      key = name;
      parts = dependencies.${name};
    }) (builtins.attrNames dependencies);
    operator =
      item:
      map (need: {
        key = need.name;
        parts = need.extra or [ ];
      }) (needs item.key item.parts);
  };
in
assert sourcePreference == "wheel";
_: _:
builtins.listToAttrs (
  map (item: {
    name = item.key;
    value = package {
      pname = item.key;
      inherit (byName.${item.key}) version;
      groups = byName.${item.key}.dev-dependencies or { };
      wheels = map (wheel: baseNameOf wheel.url) (byName.${item.key}.wheels or [ ]);
    };
  }) reached
)
