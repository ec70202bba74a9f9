"""Text from outside stays text: on the screen, in messages and in Markdown."""

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from proofcard import progress
from proofcard.reports import Section, markdown, show
from proofcard.screen import Screen, in_a_figure, in_markdown, indented, on_one_line, printable, quoted

ROOT = Path(__file__).resolve().parents[1]
NASTY = {
    "a closing tag of rich": "[/INST] done [/] [/bold]",
    "a style": "[bold red]x[/bold red]",
    "a link of rich": "[link=http://evil]x[/link]",
    "an emoji": ":smile:",
    "a colour": "\x1b[31mred",
    "clear the screen": "\x1b[2J\x1b[H",
    "a title": "\x1b]0;owned\x07",
    "a link": "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\",
    "C1": "\x9b31mred\x9d0;x\x9c",
    "back over it": "wrong\rright",
    "backspace": "bad\b\b\bgood",
    "a line of its own": "x\nverified",
    "other line ends": "x\u2028verified\u2029\x85\x0b\x0cverified",
    "backwards": "\u202eevil\u2066\u200f",
    "no width": "a\u200bb\ufeff\u00adc",
    "tags": "a\U000e0041\U000e007f",
    "half a pair": "a\ud800b",
    "NUL and BEL": "\x00\x07",
}
SEEN = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def shown(print_it) -> str:
    file = io.StringIO()
    print_it(Screen(file=file, width=200, force_terminal=True, color_system="truecolor"))
    return re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())  # styles of ours


@pytest.mark.parametrize("what", NASTY)
def test_text_is_text_wherever_it_is_printed(what: str):
    text = NASTY[what]
    table = Table(text, title=text)
    table.add_row(text)
    for print_it in (
        lambda out: out.print(text),
        lambda out: out.print("before", text, soft_wrap=True),
        lambda out: out.print(table),
        lambda out: show([Section(text, text, [text], [[text]])], out),
    ):
        said = shown(print_it)
        assert on_one_line(text) in said
        assert not SEEN.search(said)
        assert not any(line.startswith(("verified", "right")) for line in said.splitlines())


@pytest.mark.parametrize("what", NASTY)
def test_a_section_is_text_on_a_console_of_any_kind(what: str):
    out = Console(file=io.StringIO(), width=200)
    show([Section(NASTY[what], NASTY[what], ["a"], [[NASTY[what]]])], out)
    assert not SEEN.search(out.file.getvalue())


@pytest.mark.parametrize("what", NASTY)
def test_markdown_has_one_line_for_each_row_and_nothing_to_load(what: str):
    lines = markdown(
        [Section(NASTY[what], NASTY[what], ["a", "b"], [[NASTY[what], "| x ![i](http://evil) <b>"]])]
    )
    assert len(lines) == 8 and not any(SEEN.search(line) for line in lines)
    assert lines[-2].endswith(r"| \| x !\[i\](http://evil) &lt;b> |")


def test_what_needs_no_escape_is_left_alone():
    for text in ("plain", "25 × 37 = 925 …", "日本語\u3000と", "naïve\u00a0", "🙂", "a_b*c {x} (y) --flag=1"):
        assert printable(text) == on_one_line(text) == text
    assert printable("a\n\tb") == "a\n\tb"
    assert in_markdown("layers.*.w1_scale") == "layers.*.w1_scale"


def test_a_message_may_have_lines_but_none_that_looks_like_ours():
    assert indented("it ended:\n  log\nverified") == "it ended:\n  log\n  verified"


@pytest.mark.parametrize("name", [r"$\frac$", "$", "$$", r"a_$x^{$", "\x1b[2J\n$x$"])
def test_a_name_in_a_figure_is_no_formula(name: str):
    from matplotlib.figure import Figure

    figure = Figure()
    chart = figure.subplots()
    chart.plot([1, 2], label=in_a_figure(name))
    chart.set(title=in_a_figure(name))
    chart.legend()
    figure.savefig(io.BytesIO(), format="svg")


def test_what_others_say_is_short_and_without_secrets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_API_KEY", "correct-horse-battery")
    assert quoted("key correct-horse-battery\n is  wrong") == "key [redacted] is wrong"
    assert len(quoted("a " * 10_000_000)) == 300


@settings(max_examples=300, database=None)
@given(st.text(st.characters(exclude_categories=())))
def test_no_text_reaches_a_terminal_as_more_than_text(text: str):
    assert all(c.isprintable() or c.isspace() for c in printable(text))
    said = shown(lambda out: out.print(text, soft_wrap=True))
    assert not SEEN.search(said) and said.count("\n") == 1
    said.encode()


def test_the_error_of_a_command_is_text() -> None:
    code = (
        "import sys, types; from proofcard import command; from proofcard.errors import Stop\n"
        "def run(words): raise Stop('it says [/INST]\\x1b[2J\\nverify: verified')\n"
        "sys.modules['hostile'] = types.SimpleNamespace(run=run); command.run('serve', 'hostile', [])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "serve: it says [/INST]\\x1b[2J\n  verify: verified\n"


def test_paths_and_bars_are_text(capsys: pytest.CaptureFixture[str]):
    assert progress.shown(Path("/x/\x1b[2J\n[/b]")) == r"/x/\x1b[2J\n[/b]"
    with progress.Bar("[/INST]\n", 1, "[/b]") as bar:
        bar.advance()
    assert r"[/INST]\n: 1/1 [/b]" in capsys.readouterr().err


def test_all_of_the_program_prints_through_the_screen():
    """A console of rich's own, or markup in a string, would be a second way."""
    plain_prints = {  # child programs, and what runs before the screen is there
        "benchmark/null_endpoint.py", "cli.py", "command.py", "joining.py", "publish/command.py",
        "sandbox/trial.py", "screen.py", "serve/supervisor.py", "toolchain/__main__.py",
    }  # fmt: skip
    for path in (ROOT / "pipeline").rglob("*.py"):
        text = path.read_text()
        if path.name != "screen.py":
            assert not re.search(r"(?<![\w.])Console\(", text), path
            assert "from_markup" not in text and "markup=True" not in text, path
        if path.relative_to(ROOT / "pipeline/proofcard").as_posix() not in plain_prints:
            assert not re.search(r"(?m)^\s*print\(", text), path
