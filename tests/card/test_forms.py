"""The forms of a card that others read: metadata, HTML, SVG, the hub's results, Every Eval Ever."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from card import making
from running import ROOT, command

from proofcard.card.command import run
from proofcard.card.svg import drawn
from proofcard.documents.card import Chart


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint with its card."""
    made = making.checkpoint(tmp_path)
    making.write(tmp_path, making.documents(made))
    monkeypatch.chdir(tmp_path)
    assert (
        run(["checkpoint=checkpoint", "tracking=off", "base_model=org/base", 'title="<b>x</b> | `y`"']) == 0
    )
    return made


def test_the_hub_reads_the_metadata(folder: Path) -> None:
    from huggingface_hub import ModelCard

    data = ModelCard.load(folder / "README.md").data.to_dict()
    assert data["base_model"] == "org/base"
    assert data["base_model_relation"] == "quantized"
    assert data["library_name"] == "Model Optimizer"
    assert "nvfp4" in data["tags"]


def test_the_page_needs_nothing_from_outside_and_holds_no_markup_of_others(folder: Path) -> None:
    text = (folder / "README.html").read_text()
    tags: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append((tag, dict(attrs)))

    Reader().feed(text)
    assert not {"script", "img", "link", "iframe", "b", "object"} & {tag for tag, _ in tags}
    assert all(not str(attrs.get("href", "#")).startswith(("http", "//", "javascript")) for _, attrs in tags)
    assert "&lt;b&gt;x&lt;/b&gt;" in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert text.count("<svg") == 3
    for _, attrs in tags:
        target = attrs.get("href")
        if target and not target.startswith("#"):
            assert (folder / target).exists(), target


def test_links_of_the_readme_lead_to_files(folder: Path) -> None:
    import re

    text = (folder / "README.md").read_text()
    targets = set(re.findall(r"(?<!\\)\]\(([^)]+)\)", text)) - {"c"}
    assert targets
    assert all((folder / target).exists() for target in targets)


def test_verify_takes_the_card_for_what_may_lie_beside_the_seal(folder: Path) -> None:
    done = command("verify", f"checkpoint={folder}", f"source={making.GOLDEN / 'source'}", cwd=folder.parent)
    assert done.returncode == 0, done.stdout
    (folder / ".proofcard/run.py").write_text("")
    assert command("verify", f"checkpoint={folder}", cwd=folder.parent).returncode == 1


def test_results_for_the_hub_are_read_by_its_own_library(folder: Path) -> None:
    path = folder / ".eval_results/gpqa_diamond.yaml"
    [entry] = yaml.safe_load(path.read_text())
    assert entry["dataset"] == {"id": "Idavidrein/gpqa", "task_id": "gpqa_diamond"}
    assert entry["value"] == 0.7
    assert [each.name for each in path.parent.iterdir()] == [
        "gpqa_diamond.yaml"
    ]  # no benchmark of the hub: left out
    python = ROOT / ".venv-bench/bin/python"  # huggingface_hub 1.x, which has the types
    if not python.exists():
        pytest.skip("make setup-bench")
    script = (
        "import sys, yaml; from huggingface_hub import parse_eval_result_entries as p; "
        "from huggingface_hub import eval_result_entries_to_yaml as y; "
        "d = yaml.safe_load(open(sys.argv[1])); assert y(p(d)) == d, y(p(d))"
    )
    subprocess.run([python, "-c", script, path], check=True)


def test_every_eval_ever_has_each_metric_with_its_interval(folder: Path) -> None:
    log = making.loaded(folder / ".proofcard/every_eval_ever.json")
    assert log["schema_version"] == "0.3.0"
    found = {each["evaluation_name"]: each for each in log["evaluation_results"]}
    assert len(found) == 3 + 2 + 1
    task = found["gpqa_diamond"]
    assert task["score_details"]["score"] == 0.7
    assert task["score_details"]["uncertainty"]["confidence_interval"]["lower"] == pytest.approx(0.63)
    assert task["generation_config"]["generation_args"] == {
        "temperature": 1.0,
        "top_p": 0.95,
        "max_tokens": 512,
    }
    assert task["generation_config"]["additional_details"] == {"seed": "7"}
    kl = found["Mean KL divergence from the source, w4a4"]
    assert kl["metric_config"]["lower_is_better"] is True
    assert kl["metric_config"]["max_score"] == "Infinity"


@pytest.mark.parametrize(
    ("x", "lines", "top"),
    [
        ([1.0, 2.0], {"a": [1.0, None], "b": [0.5, 1.0]}, "1"),
        ([5.0], {"a": [631.0]}, "800"),
        ([0.0], {"a": [0.0]}, "1"),
    ],
)
def test_a_chart_is_well_formed(x: list[float], lines: dict[str, list[float | None]], top: str) -> None:
    chart = Chart(title="a < b", name="c", x=x, x_title="x", y_title="y & z", series=lines, document="d.json")
    root = ElementTree.fromstring(drawn(chart))
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert top in texts
    assert "y & z" in texts


def test_a_chart_without_points_is_empty() -> None:
    chart = Chart(
        title="t", name="c", x=[1.0], x_title="x", y_title="y", series={"a": [None]}, document="d.json"
    )
    assert drawn(chart) == ""


def test_a_stranger_needs_only_the_base_package() -> None:
    extras = (
        "torch",
        "transformers",
        "mlflow",
        "matplotlib",
        "datasets",
        "httpcore",
        "regex",
        "jinja2",
        "modelopt",
    )
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({extras})); "
        "import proofcard.card.command, proofcard.audit.command"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
