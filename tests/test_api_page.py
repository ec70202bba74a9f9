"""The examples of docs/api.md, run in one place and in order, as they are written."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from verify.making import make_checkpoint, make_source

PAGE = Path(__file__).parents[1] / "docs" / "api.md"


def test_the_examples_run_as_written(tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) >= 6
    source = make_source(tmp_path / "demo" / "model")
    (tmp_path / "runs" / "checkpoints").mkdir(parents=True)
    shutil.move(make_checkpoint(tmp_path / "made", source), tmp_path / "runs" / "checkpoints" / "demo")
    program = tmp_path / "page.py"
    program.write_text("\n".join(examples), encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-W", "error", program], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"NO_COLOR": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert re.fullmatch(r"model\.\S+, byte \d+: .+\n", ran.stdout), ran.stdout
    assert ran.stderr == ""
    for heavy in ("torch", "modelopt", "transformers"):
        assert f"import {heavy}" not in program.read_text()
