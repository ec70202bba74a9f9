"""The usage of `audit`, `card` and `sign`, for help.py."""

AUDIT = """\
usage: proofcard audit recipe=NAME [claims=NAME|FILE.yaml] [checkpoint=DIR]
                       [plan=FILE] [report=FILE] [key=value ...] [--json]

  proofcard audit recipe=minimax_m2_7_nvfp4_as_run
      a published card against what its code did
  proofcard audit recipe=nvidia_m2_7
      another card
  proofcard audit recipe=demo checkpoint=runs/checkpoints/demo
      your own claims, with the documents of a checkpoint

Claims files are in conf/claims. Each claim is checked by the recipe's plan,
by the card's own numbers, by documents and measurements of a checkpoint, or by
what is checked before an engine starts. Verdicts: holds, contradicted,
internally inconsistent, contradicted by measurement, not checked (with the
command and hardware that it needs). plan=FILE uses an existing plan; otherwise
the recipe is planned, minutes for a large model. The JSON is written to
<work_dir>/audits, or to FILE.
Exit status: 0 audited, whatever the verdicts; 1 failed; 2 the request is wrong.
"""

CARD = """\
usage: proofcard card checkpoint=DIR [check=true] [key=value ...] [--json]

  proofcard card checkpoint=runs/checkpoints/demo license=apache-2.0
      README.md, README.html and what they quote, beside the sealed files
  proofcard card checkpoint=/data/mine source=/data/MiniMax-M2.7 \\
      repository=OWNER/NAME
      the licence from the source's card
  proofcard card checkpoint=runs/checkpoints/demo check=true
      does every character of the card follow from its documents?

Quotes what verify, plan, analyse, evaluate, serve, benchmark, tasks, agentic,
reproduce and audit have left about the checkpoint; each number is marked
proven, measured or derived, and linked to its document and run. A section
without data names the command that fills it.
Exit status: 0 written, or the card agrees; 1 it disagrees, and where; 2 there
is nothing to write a card from.
"""

SIGN = """\
usage: proofcard sign checkpoint=DIR key=FILE [key=value ...] [--json]

  proofcard sign checkpoint=runs/checkpoints/demo key=runs/keys/demo.pem \\
      create_key=true
      makes the key first, if it does not exist, and runs/keys/demo.pem.pub
  proofcard sign checkpoint=/data/mine key=mine.pem certificate=mine.crt \\
      certificate_chain=[issuer.crt]
      for those who trust the issuer
  proofcard sign checkpoint=/data/mine sigstore=true
      without a key, by one's identity; needs the network

Written beside the sealed files, through OpenSSF model-signing: model.sig over
every sealed file; what it was made from (SLSA provenance); what verify proved
(SLSA verification summary); a bill of materials (CycloneDX). A key's password
is read from PROOFCARD_KEY_PASSWORD or password_file=FILE.
Checked by: proofcard verify levels=[signature] public_key=FILE, which needs the
base package alone; model_signing verify checks model.sig too.
Exit status: 0 signed; 1 a file is not as it was sealed, or the signer does not
answer; 2 nothing was started.
"""
