"""python -P keyed.py KEY_FILE MODULE …: `python -m MODULE …` of an engine that asks its clients for a key.

It runs in the engine's environment and imports nothing of ours. The key is in no command line, which every
user of the machine can read: SGLang finds it among the arguments of a process that was started without it,
vLLM in its environment. SGLang logs its arguments: the key is struck out of what the process logs.
"""

import logging
import os
import runpy
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Run the module of the command line as __main__."""
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
