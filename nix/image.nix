# `nix build .#image`, then `./result | docker load`: a stream, so that the layers are not in the store twice.
{ pkgs, commands }:
pkgs.dockerTools.streamLayeredImage {
  name = "proofcard";
  tag = "nix";
  contents = [
    commands.programs.quantize
    commands.programs.verify
    commands.programs.plan
    pkgs.cacert
  ];
  config = {
    Entrypoint = [ "${commands.programs.quantize}/bin/quantize" ];
    WorkingDir = "/data";
    Env = [
      "SSL_CERT_FILE=${pkgs.cacert}/etc/ssl/certs/ca-bundle.crt"
      "HOME=/data"
    ];
  };
}
