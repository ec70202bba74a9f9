{
  description = "A stand-in for uv2nix: the packages that uv.lock's extras lead to, unbuilt";

  outputs = _: {
    lib.workspace.loadWorkspace =
      { workspaceRoot, uvLock }:
      {
        mkPyprojectOverlay = import ./overlay.nix uvLock;
      };
  };
}
