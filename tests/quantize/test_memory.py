"""engine=layerwise needs the memory of one layer, however many the model has."""

from functools import cache
from pathlib import Path

import pytest
from running import ROOT, contents, forked, python

from proofcard.checkpoint.tensors import read_folder

SHALLOW, DEEP = 1, 4


class Measured:
    """A folder of wide sources and of what was made of them, each run made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cache  # noqa: B019
    def source(self, layers: int) -> Path:
        """FP8, 31 MB a layer in BF16."""
        target = self._folder / f"source-{layers}"
        wide = [f"--{n}={of}" for n, of in {"experts": 8, "hidden": 768, "inner": 768}.items()]
        program = ROOT / "benchmarks" / "wide_source.py"
        said = python(program, str(target), f"--layers={layers}", *wide, cwd=self._folder)
        assert said.returncode == 0, said.stderr
        return target

    @cache  # noqa: B019
    def run(self, layers: int, engine: str, activations: float) -> tuple[Path, int]:
        """The checkpoint, and the most memory that the command had, in bytes, imported libraries included."""
        made = self._folder / f"{engine}-{layers}-{activations}"
        names = ("open_code_reasoning", "open_math_reasoning", "magpie_pro_mt", "llama_nemotron")
        few = [f"calibration.datasets.{n}.samples=1" for n in (*names, "nemotron_post_training_v2")]
        process = forked(
            "quantize", *few,
            f"model.path={self.source(layers)}", f"output_dir={made}", f"work_dir={self._folder}/runs",
            f"engine={engine}", f"hardware.activation_memory_gib={activations}", "tracking=off",
            "coverage=natural", "calibration.sequence_length=16",
            cwd=self._folder,
        )  # fmt: skip
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        return made, process.peak

    def layer_bytes(self) -> int:
        """One layer's weights in BF16."""
        tensors = read_folder(self.source(SHALLOW)).values()
        counts = [t.size for t in tensors if t.dtype == "F8_E4M3" and t.name.startswith("model.layers.0.")]
        return 2 * sum(counts)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    measured = Measured(tmp_path_factory.mktemp("memory"))
    measured.run(DEEP, "modelopt", 0)  # draws the samples for all, which takes memory, but less than this
    return measured


@pytest.mark.parametrize("activations", [0, 16], ids=["activations in files", "activations in memory"])
def test_four_times_the_layers_take_no_more_memory(measured: Measured, activations: float) -> None:
    _, shallow = measured.run(SHALLOW, "layerwise", activations)
    _, deep = measured.run(DEEP, "layerwise", activations)
    more = (DEEP - SHALLOW) * measured.layer_bytes()
    assert deep < shallow + more / 2, f"{deep / 2**20:.0f} MiB, {shallow / 2**20:.0f} MiB"


def test_keeping_the_layers_would_be_seen(measured: Measured) -> None:
    """Half of each further layer kept is outside the bound; ModelOpt, which keeps all, is far outside."""
    _, shallow = measured.run(SHALLOW, "layerwise", 0)
    more = (DEEP - SHALLOW) * measured.layer_bytes()
    _, whole = measured.run(DEEP, "modelopt", 0)
    assert whole > shallow + 0.8 * more


def test_where_activations_wait_decides_no_byte_and_modelopt_s_are_the_same(measured: Measured) -> None:
    files, memory = (contents(measured.run(DEEP, "layerwise", where)[0]) for where in (0, 16))
    assert files == memory  # the manifest too
    theirs = contents(measured.run(DEEP, "modelopt", 0)[0])
    same = [name for name in theirs if name.endswith((".safetensors", "config.json"))]
    assert len(same) >= 4
    assert [name for name in same if files[name] != theirs[name]] == []
