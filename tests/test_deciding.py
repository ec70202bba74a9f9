"""The modules that decide bytes are declared, with all that they import, and nothing else changes a key."""

import ast
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from imports import dynamic, imported
from running import ROOT

from proofcard import deciding
from proofcard.calibration import sample_set as samples_stage
from proofcard.config import QuantizeConfig, compose

PACKAGE = ROOT / "pipeline" / "proofcard"
STAGES = {
    "samples": deciding.of_samples(deciding.adapters()),
    "quantize, layerwise": deciding.of_quantize("layerwise"),
    "quantize, modelopt": deciding.of_quantize("modelopt"),
    "dequantize": deciding.DEQUANTIZE,
    "evaluate": deciding.EVALUATE,
}
MODULES = sorted({module for modules in STAGES.values() for module in modules})
ENTRIES = {
    "samples": {"calibration.drawing"},
    "quantize, layerwise": {"quantize.layerwise.run"},
    "quantize, modelopt": {"quantize.modelopt"},
    "dequantize": {"serve.bf16_copy"},
    "evaluate": {"evaluate.run"},
}


def undeclared(modules: tuple[str, ...], package: Path = PACKAGE) -> list[str]:
    """A line for each import that leads out of what is declared."""
    services = {*deciding.SERVICES, *(name.rpartition(".")[0] for name in deciding.SERVICES)}
    known = {*modules, *services}
    return [
        f"{module} imports {name}: declare it in deciding.py, or as one of its services"
        for module in modules
        for name in sorted(imported(module, package) - known)
    ]


@pytest.mark.parametrize("stage", STAGES)
def test_a_module_that_decides_imports_only_what_is_declared(stage: str) -> None:
    assert undeclared(STAGES[stage]) == []


@pytest.mark.parametrize("stage", STAGES)
def test_every_declared_module_is_used(stage: str) -> None:
    modules = STAGES[stage]
    used = ENTRIES[stage].union(*(imported(module, PACKAGE) for module in modules))
    found_by_name = {f"calibration.adapters.{name}" for name in deciding.adapters()}
    assert set(modules) - used - found_by_name == set()
    assert len(set(modules)) == len(modules)


def test_every_service_is_imported_by_a_module_that_decides() -> None:
    used = set().union(*(imported(module, PACKAGE) for module in MODULES))
    assert set(deciding.SERVICES) - used == set()
    assert all(deciding.SERVICES.values())
    assert not set(deciding.SERVICES) & set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_no_import_is_hidden(module: str) -> None:
    allowed = {"import_module"} if module == "calibration.adapters" else set()  # of the adapters, all listed
    assert dynamic(module, PACKAGE) == allowed


@pytest.fixture(scope="module")
def copy_of_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("copy") / "proofcard"
    return shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture(scope="module")
def as_copied(copy_of_package: Path) -> dict[Path, tuple[str, int]]:
    """The text of each Python file, and when it was last written."""
    return {path: (path.read_text(), path.stat().st_mtime_ns) for path in copy_of_package.rglob("*.py")}


@pytest.fixture
def package(copy_of_package: Path, as_copied: dict[Path, tuple[str, int]]) -> Iterator[Path]:
    """A copy of the package, to be changed in its Python files."""
    yield copy_of_package
    for path in copy_of_package.rglob("*.py"):
        if path not in as_copied:
            path.unlink()
        elif path.stat().st_mtime_ns != as_copied[path][1]:
            text, written = as_copied[path]
            path.write_text(text)
            os.utime(path, ns=(written, written))


@pytest.mark.parametrize(
    "line",
    [
        "from proofcard import plan",
        "from proofcard.quantize import plots",
        "import proofcard.quantize.plots",
        "from proofcard.quantize.plots import figures",
        "from . import plots",
        "from .plots import figures",
        "def later():\n    from proofcard.quantize import plots",
        "class Late:\n    def now(self):\n        import proofcard.tracking",
        "try:\n    from proofcard.serve import client\nexcept ImportError:\n    pass",
    ],
)
def test_an_import_of_what_is_not_declared_is_found(package: Path, line: str) -> None:
    path = package / "quantize" / "preparing.py"
    path.write_text(path.read_text() + "\n" + line + "\n")
    if line == "from proofcard import plan":
        (package / "plan" / "__init__.py").write_text("import os\n")
    [found] = undeclared(STAGES["quantize, modelopt"], package)
    assert found.startswith("quantize.preparing imports ")


def test_what_only_a_type_checker_imports_is_not(package: Path) -> None:
    path = package / "quantize" / "preparing.py"
    lines = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from proofcard.quantize import plots\n"
    path.write_text(path.read_text() + lines)
    assert undeclared(STAGES["quantize, modelopt"], package) == []


def digests(package: Path) -> dict[str, str]:
    """Of each stage, the digest of its code."""
    return {stage: deciding.digest(modules, package) for stage, modules in STAGES.items()}


@cache
def undisturbed() -> dict[str, str]:
    """The same of the package itself, which a copy is before it is changed."""
    return digests(PACKAGE)


def changed(package: Path, module: str, change: Callable[[str], str]) -> list[str]:
    """The stages whose code digest is another one once a module is changed."""
    path = deciding.path_of(module, package)
    text = path.read_text()
    path.write_text(change(text))
    before, after = undisturbed(), digests(package)
    return [stage for stage in STAGES if after[stage] != before[stage]]


NOT_DECIDING = (
    "quantize.plots", "quantize.metrics", "quantize.checkpoint_stage", "quantize.command",
    "quantize.planning", "quantize.stages",
    "quantize.sealed_tables",
    "quantize.layerwise.resume", "checkpoint.download", "checkpoint.repository", "checkpoint.opening", "hub",
    "calibration.dataset_files", "calibration.identity", "calibration.frozen", "calibration.sample_set",
    "stage", "manifest", "disk", "errors", "progress", "tracking", "joining", "fingerprint",
    "serve.dequantized", "deciding",
    "syntax", "toolchain.folder",
)  # fmt: skip


@pytest.mark.parametrize("module", NOT_DECIDING)
def test_a_plot_a_download_and_bookkeeping_keep_every_key(package: Path, module: str) -> None:
    assert changed(package, module, lambda text: text + "\nCHANGED = True\n") == []


def noted(text: str) -> str:
    """Another docstring for every function and class, and a comment on every line that can bear one."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            node.body[0].value.value = "Another one."  # type: ignore[attr-defined]
    return "# another comment\n" + ast.unparse(tree)  # comments and layout are gone


@pytest.mark.parametrize("module", MODULES)
def test_a_comment_and_a_docstring_keep_every_key(package: Path, module: str) -> None:
    assert changed(package, module, noted) == []


def test_a_message_keeps_every_key(package: Path) -> None:
    def reworded(text: str) -> str:
        return text.replace("packs BF16 and FP8 sources", "it cannot be packed")

    path = deciding.path_of("quantize.layerwise.pack", package)
    assert reworded(path.read_text()) != path.read_text()
    assert changed(package, "quantize.layerwise.pack", reworded) == []


QUANTIZE = ["quantize, layerwise", "quantize, modelopt"]


@pytest.mark.parametrize(
    ("module", "old", "new", "stages"),
    [
        ("nvfp4.packing", "unit = F32(F32(6)", "unit = F32(F32(5)", [*QUANTIZE, "dequantize", "evaluate"]),
        ("nvfp4.scales", "E2M1_MAX = 6.0", "E2M1_MAX = 5.0", [*QUANTIZE, "dequantize", "evaluate"]),
        ("ranks", "ReduceOp.MAX", "ReduceOp.MIN", [*QUANTIZE, "evaluate"]),
        ("ranks", "range(self.rank, total", "range(0, total", [*QUANTIZE, "evaluate"]),
        (
            "determinism",
            "use_deterministic_algorithms(True)",
            "use_deterministic_algorithms(False)",
            [*QUANTIZE, "evaluate"],
        ),
        ("determinism", "manual_seed(seed)", "manual_seed(0)", [*QUANTIZE, "evaluate"]),
        ("calibration.batches", "np.zeros_like", "np.ones_like", [*QUANTIZE, "evaluate"]),
        ("calibration.rendering", "datetime(2025", "datetime(2024", ["samples"]),
        ("calibration.sample_files", '"samples.jsonl"', '"rows.jsonl"', ["samples", *QUANTIZE, "evaluate"]),
        ("calibration.tokenizer", "pad_token", "eos_token", ["samples", *QUANTIZE]),
        ("calibration.rows", '"user"', '"system"', ["samples"]),
        ("calibration.adapters.text", '"text"', '"body"', ["samples"]),
        ("checkpoint.writer", "5 * 10**9", "4 * 10**9", [*QUANTIZE, "dequantize", "evaluate"]),
        ("quantize.layerwise.calibrate", "value <= 0", "value < 0", ["quantize, layerwise"]),
        ("quantize.layerwise.hidden", "2 * self.bytes", "self.bytes", ["quantize, layerwise", "evaluate"]),
        ("quantize.tables", '"cold"', '"unseen"', ["quantize, layerwise"]),
        ("quantize.modelopt", "torch.no_grad", "torch.enable_grad", ["quantize, modelopt"]),
        ("quantize.model", "dtype=torch.bfloat16", "dtype=torch.float16", [*QUANTIZE, "evaluate"]),
        ("quantize.preparing", '"ignore"', '"exclude"', QUANTIZE),
        ("quantize.quantizers", '"max"', '"mse"', [*QUANTIZE, "evaluate"]),
        ("serve.bf16_copy", '"text_config"', '"other"', ["dequantize"]),
        ("serve.layouts", "BLOCK = 16", "BLOCK = 32", ["dequantize", "evaluate"]),
    ],
)
def test_a_deciding_function_changes_the_keys_of_its_stages(
    package: Path, module: str, old: str, new: str, stages: list[str]
) -> None:
    assert old in deciding.path_of(module, package).read_text()
    assert changed(package, module, lambda text: text.replace(old, new)) == stages


def test_a_new_dataset_touches_no_key_of_others(package: Path) -> None:
    used = deciding.of_samples(["text", "magpie_pro_mt"])
    before = deciding.digest(used, package)
    new = package / "calibration" / "adapters" / "new_one.py"
    new.write_text("def read(row):\n    return None\n")
    for other in ("open_code_reasoning", "llama_nemotron"):
        path = deciding.path_of(f"calibration.adapters.{other}", package)
        path.write_text(path.read_text() + "\nCHANGED = True\n")
    assert deciding.digest(used, package) == before
    assert deciding.digest(deciding.of_samples(["new_one"]), package)
    assert set(deciding.of_samples(["text", "text"])) < set(used)


def test_the_recipe_s_adapters_are_in_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(deciding, "digest", lambda modules: asked.append(tuple(modules)) or "0")
    samples_stage.describe(compose(QuantizeConfig, "config", []))
    [modules] = asked
    adapters = {name.rpartition(".")[2] for name in modules if name.startswith("calibration.adapters.")}
    assert adapters == {
        "open_code_reasoning", "open_math_reasoning", "magpie_pro_mt", "nemotron_post_training_v2",
        "llama_nemotron_turns",
    }  # fmt: skip
