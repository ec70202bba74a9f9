"""A chat template has limits of time, memory and text; what it is refused for is one sentence."""

import resource
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from proofcard.calibration import rendering
from proofcard.calibration.rendering import Renderer
from proofcard.calibration.rows import Conversation, UnreadableRow
from proofcard.errors import Usage

HELLO = Conversation(({"role": "user", "content": "Hello"},), "Hello")
LOOP, END = "{% for a in range(99999) %}", "{% endfor %}"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(Path(__file__).parents[2] / "demo/model")


ENDLESS = {
    "loops": (LOOP * 4 + END * 4, "needs more than"),
    "in a macro": ("{% macro f() %}" + LOOP * 4 + END * 4 + "{% endmacro %}{{ f() }}", "needs more than"),
    "a power": ("{{ (2 ** 4000000) ** 4000000 % 7 }}", "needs more than|exceeded"),
    "a long text": ("{{ 'a' * 10 ** 10 }}", "needs more than 128 MiB of memory"),
    "doubling": (
        "{% set n = namespace(s='aaaa') %}{% for a in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "needs more than 128 MiB of memory",
    ),
    "a list": ("{{ [1] * 10 ** 9 }}", "needs more than 128 MiB of memory"),
    "much output": (LOOP * 2 + "aaaaaaaaaa" + END * 2, "needs more than"),
    "a wide format": ("{{ '%999999999d' % 1 }}", "needs more than 128 MiB of memory"),
    "itself": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recurses without end"),
    "deep blocks": ("{% if true %}" * 3000 + "{% endif %}" * 3000, "nested too deeply|is not a valid"),
    "deep brackets": ("{{ " + "(" * 9000 + "1" + ")" * 9000 + " }}", "nested too deeply|is not a valid"),
    "8 MB": ("{{ 'a' * 8000000 }}", "into 8,000,000 bytes of text"),
    "no template": ("{% if %}", "is not a valid jinja2 template"),
    "an unknown tag": ("{% frobnicate %}", "is not a valid jinja2 template"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDLESS)
def test_a_template_that_wants_too_much_is_refused(
    tokenizer: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    template, sentence = ENDLESS[name]
    monkeypatch.setattr(rendering, "_SECONDS", 0.5)
    monkeypatch.setattr(tokenizer, "chat_template", template)
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Renderer(tokenizer) as renderer, pytest.raises(Usage, match=sentence) as refusal:
        renderer.check()
    assert "\n" not in str(refusal.value)
    assert time.monotonic() - begun < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


@pytest.mark.parametrize(
    "template",
    ["{{ raise_exception('no') }}", "{{ 1 / 0 }}", "{{ messages[7].content }}", "{{ messages.__class__.x }}",
     "{{ [].append(1) }}", "{{ range(10 ** 9) }}", "{{ 'a' + 1 }}", "{{ '%d' % 'a' }}"],
)  # fmt: skip
def test_what_fails_on_a_row_skips_that_row(
    tokenizer: Any, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        tokenizer,
        "chat_template",
        "{% if messages[0].content == 'x' %}ok{% else %}" + template + "{% endif %}",
    )
    with Renderer(tokenizer) as renderer:
        renderer.check()
        with pytest.raises(UnreadableRow, match="refused by the chat template"):
            renderer.render(HELLO)
        assert renderer.render(Conversation(({"role": "user", "content": "x"},), "x")) == "ok"


def test_a_row_that_never_ends_is_refused_after_others(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "_SECONDS", 0.5)
    template = (
        "{% if messages[0].content == 'x' %}" + LOOP * 4 + END * 4 + "{% endif %}{{ messages[0].content }}"
    )
    monkeypatch.setattr(tokenizer, "chat_template", template)
    with Renderer(tokenizer) as renderer:
        assert [renderer.render(HELLO) for _ in range(3)] == ["Hello"] * 3
        with pytest.raises(Usage, match=r"chat template of demo needs more than"):
            renderer.render(Conversation(({"role": "user", "content": "x"},), "x"))


def test_the_text_is_that_of_the_tokenizer(tokenizer: Any) -> None:
    said = Conversation(
        ({"role": "system", "content": "é 🙂 \ud800"}, {"role": "user", "content": "a" * 300_000}), "",
        ({"type": "function", "function": {"name": "add", "parameters": {}}},),
    )  # fmt: skip
    with Renderer(tokenizer) as renderer:
        assert renderer.render(said) == tokenizer.apply_chat_template(
            list(said.messages), tools=list(said.tools), tokenize=False
        )


def test_several_templates_without_a_first_are_one_sentence(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", {"tool_use": "a", "rag": "b"})
    with Renderer(tokenizer) as renderer, pytest.raises(Usage, match="cannot be selected"):
        renderer.check()
