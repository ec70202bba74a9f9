"""What counts as a change of a module, and what does not; the digest is the same on every Python."""

import shutil
import subprocess
from pathlib import Path

import pytest
from running import ROOT

from proofcard import syntax

SAMPLE = Path(__file__).parent / "syntax_sample.txt"
GOLDEN = "983b1706b65b5ad716c455fec260d500476068c9d78b4894951fe01fce5a8411"

FUNCTION = '''
def scale(amax: float, name: str) -> float:
    """The scale."""
    if amax <= 0:
        raise Stop(f"{name}: amax is {amax}", "give one above zero")
    assert name, "a name is needed"
    print("scaling", name)
    console.print(f"scaling {name}", markup=False)
    return amax / 448
'''


def same(a: str, b: str) -> bool:
    return syntax.digest(a) == syntax.digest(b)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('    """The scale."""\n', '    """What an amax is divided by."""\n'),
        ('    """The scale."""\n', "    # The scale.\n"),
        ('    """The scale."""\n', ""),
        ("    return amax / 448\n", "    return (amax\n            / 448)  # of E4M3\n"),
        ('f"{name}: amax is {amax}"', 'f"{amax} is no amax for {name}"'),
        ('f"{name}: amax is {amax}"', '"there is no amax"'),
        ('"a name is needed"', '"no name"'),
        ('print("scaling", name)', 'print("now", name)'),
        ('f"scaling {name}"', '"scaling"'),
        ("    return amax / 448\n", '    "An attribute would be described so."\n    return amax / 448\n'),
    ],
)
def test_what_only_a_person_reads_is_free_to_change(old: str, new: str) -> None:
    assert old in FUNCTION
    assert same(FUNCTION, FUNCTION.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("448", "447"),
        ("448", "448.0"),
        ("amax <= 0", "amax < 0"),
        ("raise Stop(", "raise UnreadableRow("),
        ('"give one above zero"', "why(name)"),
        (', "give one above zero"', ""),
        ("assert name, ", "assert amax, "),
        ('print("scaling", name)', 'print("scaling", name, file=report)'),
        ('print("scaling", name)', 'table.print("scaling", name)'),
        ('console.print(f"scaling {name}", markup=False)', "pass"),
        ("markup=False", "markup=True"),
        ("amax: float", "amax: int"),
        ("    return amax / 448\n", "    return 448 / amax\n"),
    ],
)
def test_what_a_machine_does_is_not(old: str, new: str) -> None:
    assert old in FUNCTION
    assert not same(FUNCTION, FUNCTION.replace(old, new))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ('raise UnreadableRow("no text")', 'raise UnreadableRow("no words")'),  # its text is a manifest's
        ('raise why("no text")', 'raise why("no words")'),
        ('x = "no text"', 'x = "no words"'),
        ('raise Stop(f"{(n := 1)}")', 'raise Stop(f"{(n := 2)}")'),
        ('print("a", file=f)', 'print("b", file=f)'),
        ('print("a", **where)', 'print("b", **where)'),
        ('f("a")', 'f("b")'),
        ("x = 1", "x = True"),
        ("x = 1", "x = '1'"),
        ('x = f"{a}b"', 'x = f"{a}c"'),
        ('x = f"{a!r}"', 'x = f"{a}"'),
        ('x = f"{a:.1f}"', 'x = f"{a:.2f}"'),
        ("return_ = None", "return_ = ()"),
        ("{**a, 1: 2}", "{1: 2, **a}"),
    ],
)
def test_in_doubt_a_string_counts(a: str, b: str) -> None:
    assert not same(a, b)
    assert same(a, f"{a}  # same")


def test_parts_of_an_f_string_are_one_however_they_are_cut() -> None:
    assert same('x = f"a{b}" "c" f"d"', 'x = f"a{b}cd"')
    assert same("x = u'é'", 'x = "\\u00e9"')


def test_the_digest_of_a_sample_is_the_recorded_one() -> None:
    """Every construct of 3.11 once; 3.11, 3.12 and 3.13 gave this digest."""
    assert syntax.digest(SAMPLE.read_text()) == GOLDEN


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_other_pythons_give_it_too(version: str) -> None:
    interpreter = shutil.which(f"python{version}")
    words = "import sys, pathlib; from proofcard import syntax; "
    words += "print(syntax.digest(pathlib.Path(sys.argv[1]).read_text()))"
    if interpreter is None or subprocess.run([interpreter, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"no Python {version} here")
    said = subprocess.run(
        [interpreter, "-c", words, SAMPLE], cwd=ROOT / "pipeline", capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == GOLDEN
