# The console scripts as programs that bring everything they need, and as apps: `nix run .#plan -- recipe=demo`.
{
  inputs,
  pkgs,
  environments,
}:
let
  inherit (inputs.nixpkgs) lib;

  # Every command of proofcard as an app, and the program itself; a test holds the names to `proofcard --help`.
  # `beside` are environments of other tools that it starts, the engine's first; nothing else brings those in.
  commands =
    lib.mapAttrs (name: command: { script = "proofcard ${name}"; } // command) {
      agentic.description = "A program built through tool calls, tested task by task";
      analyse.description = "Calibration statistics of a checkpoint";
      audit.description = "Check the claims of a published card, one by one";
      benchmark = {
        description = "Throughput and latency of a served checkpoint";
        beside = [
          "serve"
          "bench"
        ];
      };
      card.description = "Write a model card from runs, or hold one to them";
      compare.description = "Differences between two checkpoints of one model";
      evaluate.description = "What quantization cost, beside the source, and where";
      fetch.description = "Download the model and the samples of a recipe";
      plan.description = "What a recipe will do and cost, before a GPU is paid for";
      publish.description = "Upload a proved checkpoint with its card, and read it back";
      quantize.description = "Make a sealed NVFP4 checkpoint from a recipe";
      repeat.description = "Is the answer to one greedy request always the same?";
      reproduce.description = "Rebuild a checkpoint from its manifest and compare digests";
      run = {
        description = "Everything, from a recipe to a signed card";
        beside = [
          "serve"
          "bench"
        ];
      };
      serve = {
        description = "Serve a checkpoint with SGLang";
        beside = [ "serve" ];
      };
      sign.description = "Sign a checkpoint, what it was made from and what was proved";
      tasks = {
        description = "Is it as good as its source? lm-eval tasks compared";
        beside = [
          "serve"
          "bench"
        ];
      };
      verify.description = "Prove a checkpoint, or name the first byte that differs";
    }
    // {
      proofcard = {
        description = "Every command: nix run .#proofcard -- COMMAND";
        script = "proofcard";
      };
      serve-vllm = {
        description = "Serve a checkpoint with vLLM: the serving profiles named after it";
        script = "proofcard serve";
        beside = [ "vllm" ];
      };
      mlflow-ui = {
        description = "The MLflow pages of the runs made here, on loopback";
        script = "mlflow ui --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///runs/mlflow.db";
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
        "export PYTHONDONTWRITEBYTECODE=1 # the store is read-only"
      ]
      ++ map (other: "export PROOFCARD_ENV_${lib.toUpper other}=${environments.${other}}") beside
      ++ lib.optionals (beside != [ ]) [
        "export CUDA_HOME=${home}"
        "export NVCC_CCBIN=${pkgs.stdenv.cc}/bin"
      ]
      ++ [
        "# shellcheck source=/dev/null"
        ". ${./driver.sh}"
        ''exec ${environments.quantize}/bin/${command.script} "$@"''
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
