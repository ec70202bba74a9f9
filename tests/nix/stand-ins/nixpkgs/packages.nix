# Builders and programs: a shell of the host runs every script, and its programs are what packages hold.
let
  lib = import ./lib.nix;
  said = builtins.fromJSON (builtins.readFile ./host.json);

  runCommand =
    name: attributes: script:
    derivation (
      attributes
      // {
        inherit name;
        system = "x86_64-linux";
        builder = "/bin/sh";
        args = [
          "-euc"
          script
        ];
        PATH = said.path;
        HOME = "/homeless-shelter";
      }
    )
    // {
      overrideAttrs = change: runCommand name (attributes // change) script;
    };

  links =
    name: programs:
    runCommand name { } (
      lib.concatStringsSep "\n" (
        [ "mkdir -p $out/bin" ]
        ++ map (program: "ln -s \"$(command -v ${program})\" $out/bin/${baseNameOf program}") programs
      )
    );

  packages = {
    inherit lib runCommand;
    host = said;
    callPackage =
      target: given:
      let
        function = if builtins.isFunction target then target else import target;
      in
      function (builtins.intersectAttrs (builtins.functionArgs function) packages // given);

    stdenv.cc =
      links "cc" [
        "cc"
        "c++"
      ]
      // {
        cc = runCommand "cc-libraries" { } "mkdir $out";
      };
    python312 = links "python" [ said.python ];
    uv = links "uv" [ said.uv ];
    git = links "git" [ "git" ];
    gnumake = links "gnumake" [ "make" ];
    ninja = runCommand "ninja" { } "mkdir $out";
    cacert = runCommand "cacert" { } "mkdir $out";
    nixfmt-tree = runCommand "nixfmt-tree" { } "mkdir $out";

    symlinkJoin =
      { name, paths }:
      runCommand name { inherit paths; } ''
        mkdir $out
        for path in $paths; do cp -rs $path/. $out; done
      '';
    writeShellApplication =
      {
        name,
        text,
        runtimeInputs ? [ ],
        meta ? { },
      }:
      runCommand name
        {
          inherit text;
          passAsFile = [ "text" ];
          inputs = lib.concatStringsSep ":" (map (input: "${input}/bin") runtimeInputs);
        }
        ''
          mkdir -p $out/bin
          {
            echo '#!/bin/bash'
            echo 'set -euo pipefail'
            echo "export PATH=$inputs:\$PATH"
            cat "$textPath"
          } > $out/bin/${name}
          chmod +x $out/bin/${name}
        '';
    mkShell =
      { packages, shellHook }:
      runCommand "shell" {
        inherit shellHook;
        inputs = packages;
      } "mkdir $out";
    dockerTools.streamLayeredImage =
      arguments: runCommand arguments.name { said = builtins.toJSON arguments; } "echo \"$said\" > $out";
  };
in
packages
