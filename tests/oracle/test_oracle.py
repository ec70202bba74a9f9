"""Our remote code against the library's own MiniMax-M2, weights and inputs being the same.

Bounds. In float32 the two do the same additions in another order, so they agree to about 1e-4. In BF16
each carries the rounding noise of its own run, which is measured as its distance from its own float32
run; two independent noises of rms n differ by rms n·√2, and nothing but noise may be there. That the
noise itself is noise: a BF16 rounding has relative rms 2⁻⁹/√3; some forty of them lie between a token
and its logits (three layers of about a dozen, and the head), and they add up like a random walk to
2⁻⁹/√3·√40 ≈ 0.7 %; routing that flips on a near tie costs more, hence the factor of six.
On the machine of result.json both differences were 0: the two do the same operations in the same order.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PYTHON = ROOT / ".venv-oracle" / "bin" / "python"
RESULT = HERE / "result.json"
BUILD = [str(ROOT / "scripts" / "uv"), "sync", "--frozen", "--no-install-project", "--group", "oracle"]
sys.path.insert(0, str(ROOT))


def oracle_python():
    """The oracle environment's interpreter; builds it from the lock or brings it up to date, else fails."""
    built = subprocess.run(
        BUILD,
        cwd=ROOT,
        env={**os.environ, "UV_PROJECT_ENVIRONMENT": ".venv-oracle"},
        capture_output=True,
        text=True,
    )
    if built.returncode or not PYTHON.exists():
        pytest.fail(f"no oracle environment, and building it failed:\n{built.stderr}", pytrace=False)
    return str(PYTHON)


def write_plain(folder, rotary_share=None):
    """The plain checkpoint for the library, as transformers 5 has to be told of it."""
    from demo import fp8, perplexity

    fp8.dequantize_folder(perplexity.MODEL, folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("auto_map")
    # transformers 5 knows the partial rotary embedding by its share only and ignores `rotary_dim`.
    share = config.pop("rotary_dim") / config["head_dim"] if rotary_share is None else rotary_share
    config["rope_parameters"] = {
        "partial_rotary_factor": share,
        "rope_theta": config.pop("rope_theta"),
        "rope_type": "default",
    }
    fp8.write_json(folder / "config.json", config)
    for code in folder.glob("*.py"):
        code.unlink()


def write_ours(file):
    """Our inputs and our logits."""
    import torch
    from safetensors.torch import save_file

    from demo import perplexity

    rows = perplexity.heldout_ids(perplexity.MODEL)[::10]
    width = max(map(len, rows))
    config = json.loads((perplexity.MODEL / "config.json").read_text())
    ids = torch.full((len(rows), width), config["pad_token_id"])
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):  # even rows padded on the left, odd ones on the right
        place = slice(width - len(row), None) if index % 2 == 0 else slice(0, len(row))
        ids[index, place] = torch.tensor(row)
        mask[index, place] = 1
    tensors = {"input_ids": ids, "attention_mask": mask}
    for name in ("float32", "bfloat16"):
        model = perplexity.load_model(perplexity.MODEL, getattr(torch, name), "eager")
        with torch.no_grad():
            output = model(input_ids=ids, attention_mask=mask, use_cache=False)
        tensors[name] = output.logits.float().contiguous()
    save_file(tensors, file)


def compare(folder, *rotary_shares):
    """Run the oracle in an empty folder, with each share; its comparisons, with the weights they are about.

    The first one is of all rows, the others are of every fourth.
    """
    from safetensors.torch import load_file, save_file

    from demo import perplexity

    write_ours(folder / "ours.safetensors")
    exchanges = [folder / str(number) for number in range(len(rotary_shares))]
    ours = load_file(folder / "ours.safetensors")
    for exchange, share in zip(exchanges, rotary_shares, strict=True):
        write_plain(exchange / "plain", share)
        step = 1 if exchange == exchanges[0] else 4
        some = {name: tensor[::step].contiguous() for name, tensor in ours.items()}
        save_file(some, exchange / "ours.safetensors")
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    offline.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody else compiles what this environment imports
    command = [oracle_python(), str(HERE / "compare_logits.py"), *map(str, exchanges)]
    ran = subprocess.run(command, capture_output=True, text=True, env=offline)
    assert ran.returncode == 0, ran.stderr[-4000:]
    digest = {"weights_sha256": perplexity.weights_digest(perplexity.MODEL)}
    return [json.loads((each / "comparison.json").read_text()) | digest for each in exchanges]


def check(result):
    """The bounds of the module's docstring."""
    assert result["float32"]["max"] < 1e-4 * max(1.0, result["logits_rms"])
    assert result["same_best_token"]["float32"] == 1.0
    noise = max(result["bfloat16_noise_ours"]["rms"], result["bfloat16_noise_library"]["rms"])
    assert noise < 6 * 0.007 * result["logits_rms"]
    assert result["bfloat16"]["rms"] <= 2**0.5 * noise
    assert result["same_best_token"]["bfloat16"] > 0.98


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """As it is, and with the embedding on every channel: as the library would run, `rotary_dim` ignored."""
    return compare(tmp_path_factory.mktemp("oracle"), None, 1.0)


@pytest.fixture(scope="module")
def measured(compared):
    return compared[0]


def test_library_and_remote_code_agree(measured):
    check(measured)
    assert measured["transformers"].startswith("5.12.")


def test_the_comparison_sees_a_wrong_model(compared):
    wrong = compared[1]
    assert wrong["float32"]["rms"] > 0.1
    with pytest.raises(AssertionError):
        check(wrong)


def test_recorded_result_holds_and_is_of_these_weights(measured):
    recorded = json.loads(RESULT.read_text())
    check(recorded)
    assert recorded["weights_sha256"] == measured["weights_sha256"]
    assert recorded["tokens"] == measured["tokens"]
    assert recorded["transformers"] == measured["transformers"]
    # Same weights, same inputs: the logits' size is the same to float32 accuracy on any machine.
    assert recorded["logits_rms"] == pytest.approx(measured["logits_rms"], rel=1e-4)


if __name__ == "__main__":  # python tests/oracle/test_oracle.py: measure anew and record
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        (outcome,) = compare(Path(scratch), None)
    check(outcome)
    RESULT.write_text(json.dumps(outcome, indent=2, sort_keys=True) + "\n")
