"""python -P keyed.py KEY_FILE MODULE …: `python -m MODULE …` for an engine whose clients need a key.

It runs in the engine's environment and imports none of our code. The key is on no command line, which every
user of the machine could read: SGLang gets it as an argument added in the process itself,
vLLM in its environment. SGLang logs its arguments, so the key is redacted from what the process logs.
"""

import logging
import os
import runpy
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Run the module on the command line as __main__."""
    file, module, *arguments = sys.argv[1:]
    key = Path(file).read_text(encoding="utf-8").strip()
    if module.startswith("vllm"):
        os.environ["VLLM_API_KEY"] = key
    else:
        arguments += ["--api-key", key]
    _strike(key)
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _strike(key: str) -> None:
    make = logging.getLogRecordFactory()

    def struck(*values: Any, **named: Any) -> logging.LogRecord:
        record = make(*values, **named)
        text = record.getMessage()
        if key in text:
            record.msg, record.args = text.replace(key, "[redacted]"), None
        return record

    logging.setLogRecordFactory(struck)


if __name__ == "__main__":
    main()
