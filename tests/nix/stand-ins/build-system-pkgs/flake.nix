{
  description = "A stand-in for build-system-pkgs: the host's uv brings the build systems";

  outputs = _: {
    overlays.wheel = _: _: { };
  };
}
