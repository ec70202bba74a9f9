"""The rules by which pages of docs/ are run, on pages of a few lines."""

from pathlib import Path

import pytest
from walkthroughs.walking import Shell, differs, steps, walk

PAGE = """\
# A page

```console
$ echo one \\
    two
one two
$ x=3
```
```sh
exit 1
```
```console
$ echo $x; echo more >&2
3
$ ls nowhere
ls: … 'nowhere': …
$ echo $?
2
```
"""


def test_commands_run_in_order_in_one_shell(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    with Shell(tmp_path, {"LC_ALL": "C"}) as shell:
        walked = [step.command for step in walk(tmp_path / "page.md", shell)]
    assert walked == ["echo one \\\n    two", "x=3", "echo $x; echo more >&2", "ls nowhere", "echo $?"]
    assert [step.line for step in steps(PAGE)] == [4, 7, 13, 15, 17]


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ("$ echo 4\n3", "'3' is shown, '4' printed"),
        ("$ false", "exit status 1 of page.md, line 2: false"),
        ("$ echo 1; echo 2\n1", "'2' is printed and not shown"),
        ("$ true\n1", "'1' is shown, nothing printed"),
    ],
)
def test_what_is_not_as_shown_is_named(tmp_path: Path, page: str, sentence: str) -> None:
    (tmp_path / "page.md").write_text(f"```console\n{page}\n```\n")
    with Shell(tmp_path, {}) as shell, pytest.raises(AssertionError) as failed:
        list(walk(tmp_path / "page.md", shell))
    assert sentence in str(failed.value)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (["a …, b"], "a 3, b", True),
        (["a", "…", "d"], "a\nb\nc\nd", True),
        (["a", "…"], "a\nb\n", True),
        (["…", "d"], "d", True),
        (["a", "…", "d"], "a\nd\ne", False),
        (["a", "", " b  c "], "a\n\n\nb   c", True),
        (["b"], "a\nb", False),
        (["1.2"], "1x2", False),
    ],
)
def test_an_ellipsis_is_any_text_or_any_lines(shown: list[str], printed: str, same: bool) -> None:
    assert (differs(shown, printed) is None) is same
