"""Draws sample sets, one for each line of standard input, and answers each with a line on standard output.

    {"folder": …, "overrides": […], "environment": {…}} -> {"stop": "Stop: …" or null, "said": "…"}

A process of its own, since huggingface_hub reads HF_ENDPOINT when imported; one for all the tests, since
importing it takes longer than they do.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path

import datasets.config

from proofcard import hub
from proofcard.calibration.sample_set import describe, make
from proofcard.config import QuantizeConfig, compose
from proofcard.errors import Stop

hub.FIRST_WAIT = 0.1
datasets.config.STREAMING_READ_RATE_LIMIT_RETRY_INTERVAL = 1  # seconds; 60 by default
for line in sys.stdin:
    asked = json.loads(line)
    os.environ.update(asked["environment"])
    stop = None
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            config = compose(QuantizeConfig, "config", asked["overrides"])
            make(config, describe(config), Path(asked["folder"]))
        except Stop as error:
            stop = f"{type(error).__name__}: {error}"
    for name in asked["environment"]:
        del os.environ[name]
    print(json.dumps({"stop": stop, "said": said.getvalue()}), flush=True)
