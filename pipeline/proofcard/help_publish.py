"""The usage of `publish`, for help.py."""

PUBLISH = """\
usage: proofcard publish checkpoint=DIR repository=OWNER/NAME [source=DIR]
                         [public_key=FILE] [private=false] [yes=true] [--json]

  proofcard publish checkpoint=runs/checkpoints/demo repository=OWNER/NAME
      shows what will go where, and asks
  proofcard publish checkpoint=runs/checkpoints/demo repository=OWNER/NAME \\
      source=demo/model public_key=runs/keys/demo.pem.pub
      weights and signature are checked now, not by an earlier verification
  proofcard publish checkpoint=/data/mine repository=OWNER/NAME private=false \\
      yes=true
      readable by everybody, and no question: for scripts

Refused: what does not verify, a card that is missing or disagrees, a file that
names a local folder or this host, a repository with anything else in it.
Without yes=true and a terminal it only shows. One commit, tagged with the key;
then every digest and header is read back. An interrupted upload resumes.
HF_TOKEN or a login is used; a token on the command line is refused.
Exit status: 0 published and read back, 1 failed, 2 nothing was sent.
"""
