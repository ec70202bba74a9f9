# The functions of nixpkgs' lib that the flake calls, each as its manual describes it.
rec {
  inherit (builtins)
    attrNames
    concatStringsSep
    filter
    genList
    head
    mapAttrs
    sort
    ;

  filterAttrs =
    keep: set: removeAttrs set (filter (name: !keep name set.${name}) (attrNames set));
  genAttrs =
    names: value:
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value = value name;
      }) names
    );
  optional = wanted: value: if wanted then [ value ] else [ ];
  optionals = wanted: values: if wanted then values else [ ];
  optionalAttrs = wanted: values: if wanted then values else { };
  hasPrefix = start: text: builtins.substring 0 (builtins.stringLength start) text == start;
  hasSuffix =
    end: text:
    let
      start = builtins.stringLength text - builtins.stringLength end;
    in
    start >= 0 && builtins.substring start (-1) text == end;
  toInt = builtins.fromJSON;
  toUpper = builtins.replaceStrings (letters "abcdefghijklmnopqrstuvwxyz") (
    letters "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
  );
  letters = text: genList (at: builtins.substring at 1 text) (builtins.stringLength text);
  escapeShellArg = text: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] (toString text)}'";
  importTOML = path: builtins.fromTOML (builtins.readFile path);
  getLib = drv: drv;

  fix =
    function:
    let
      self = function self;
    in
    self;
  composeManyExtensions =
    extensions: final: previous:
    builtins.foldl' (set: extension: set // extension final set) previous extensions;

  fileset = {
    unions = paths: paths;
    toSource =
      { root, fileset }:
      let
        wanted = map toString fileset;
        leads = path: builtins.any (each: each == path || hasPrefix "${path}/" each) wanted;
        within = path: builtins.any (each: hasPrefix "${each}/" path) wanted;
      in
      builtins.path {
        name = "source";
        path = root;
        filter = path: _: leads path || within path;
      };
  };
}
