# The console scripts as programs that bring everything they need, and as apps: `nix run .#plan -- recipe=demo`.
{
  inputs,
  pkgs,
  environments,
}:
let
  inherit (inputs.nixpkgs) lib;

  # A command becomes an app when pyproject.toml has it; one that is missing here stops the evaluation.
  # `beside` are environments of other tools that it starts, the engine's first; nothing else brings those in.
  known = {
    analyse.description = "What the calibration of a sealed checkpoint was worth, measured";
    benchmark = {
      description = "Throughput and latency of a served checkpoint";
      beside = [
        "serve"
        "bench"
      ];
    };
    compare.description = "What two checkpoints of one model differ in";
    evaluate = {
      description = "The quality of a served checkpoint";
      beside = [
        "serve"
        "bench"
      ];
    };
    fetch.description = "Download a recipe's model, every file checked";
    plan.description = "What a recipe will do and take, before a GPU is paid for";
    quantize.description = "Make a sealed NVFP4 checkpoint from a recipe";
    report.description = "The model card of a checkpoint, from its manifests and measurements";
    run = {
      description = "The whole pipeline: quantize, verify, serve, measure, report";
      beside = [
        "serve"
        "bench"
      ];
    };
    serve = {
      description = "Serve a checkpoint with SGLang";
      beside = [ "serve" ];
    };
    verify.description = "Prove a checkpoint, or name the first byte that differs";
  };

  scripts = (lib.importTOML ../pyproject.toml).project.scripts;
  unknown = lib.filter (name: !(known ? ${name})) (lib.attrNames scripts);
  commands =
    assert unknown == [ ] || throw "nix/commands.nix does not know the command ${lib.head unknown}";
    lib.mapAttrs (name: _: known.${name}) scripts
    // lib.optionalAttrs (scripts ? serve) {
      serve-vllm = {
        description = "Serve a checkpoint with vLLM: the serving profiles named after it";
        script = "serve";
        beside = [ "vllm" ];
      };
    }
    // {
      mlflow-ui = {
        description = "The MLflow pages of the runs made here, on loopback";
        script = "mlflow";
        first = "ui --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///runs/mlflow.db";
      };
    };

  # What a manifest says of where it was made: inputs as they are locked or overridden, and the environment.
  locked = lib.mapAttrs (
    _: input: lib.filterAttrs (name: _: name == "rev" || name == "narHash") input
  ) (removeAttrs inputs [ "self" ]);
  derivation = baseNameOf (builtins.unsafeDiscardStringContext environments.quantize.drvPath);

  program =
    name: command:
    let
      beside = command.beside or [ ];
      engine = environments.${lib.head beside};
      home = pkgs.callPackage ./cuda-home.nix { environment = engine; };
      lines = [
        "unset PYTHONPATH PYTHONHOME # nothing of the host's Python"
        "export PROOFCARD_FLAKE_DERIVATION=${derivation}"
        "export PROOFCARD_FLAKE_INPUTS=${lib.escapeShellArg (builtins.toJSON locked)}"
        "export PYTHONDONTWRITEBYTECODE=1 # the store is nobody's to write in"
      ]
      ++ map (other: "export PROOFCARD_ENV_${lib.toUpper other}=${environments.${other}}") beside
      ++ lib.optionals (beside != [ ]) [
        "export CUDA_HOME=${home}"
        "export NVCC_CCBIN=${pkgs.stdenv.cc}/bin"
      ]
      ++ [
        "# shellcheck source=/dev/null"
        ". ${./driver.sh}"
        ''exec ${environments.quantize}/bin/${command.script or name} ${command.first or ""} "$@"''
      ];
    in
    pkgs.writeShellApplication {
      inherit name;
      # Triton and FlashInfer compile kernels while they run.
      runtimeInputs = [ pkgs.stdenv.cc ] ++ lib.optional (beside != [ ]) pkgs.ninja;
      text = lib.concatStringsSep "\n" lines;
      meta = { inherit (command) description; };
    };

  programs = lib.mapAttrs program commands;
in
{
  inherit programs;
  apps = lib.mapAttrs (name: command: {
    type = "app";
    program = "${programs.${name}}/bin/${name}";
    meta = { inherit (command) description; };
  }) commands;
}
