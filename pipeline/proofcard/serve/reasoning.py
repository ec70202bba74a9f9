"""Separates a model's reasoning from its answer, by the marks that models put around it."""

import re
from pathlib import Path
from typing import NamedTuple

_MARKS = (  # (opens, closes): first the ones in use most
    (r"<think>", r"</think>"),  # DeepSeek, Qwen, MiniMax, GLM, Hunyuan, …
    (r"<thinking>", r"</thinking>"),
    (r"<thought>", r"</thought>"),
    (r"<reasoning>", r"</reasoning>"),
    (r"<seed:think>", r"</seed:think>"),  # Seed-OSS
    (r"<mm:think>", r"</mm:think>"),  # MiniMax
    (r"\[THINK\]", r"\[/THINK\]"),  # Mistral
    (r"◁think▷", r"◁/think▷"),  # Kimi
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),  # Cohere
    (r"<\|channel>thought", r"<channel\|>"),  # Gemma
)
_OPENS = re.compile("|".join(opens for opens, _ in _MARKS), re.IGNORECASE)
_CLOSES = re.compile("|".join(closes for _, closes in _MARKS), re.IGNORECASE)
# gpt-oss: channels with their special tokens, and as a tokenizer that leaves those out writes them.
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]{0,200}(?:<\|constrain\|>[^<]{0,200})?<\|message\|>")
_CHANNEL_END = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
_BARE_CHANNEL = re.compile(r"\s*analysis(?=[A-Z\"'*(\d])")
_BARE_FINAL = "assistantfinal"
_TEMPLATES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")
_LARGEST = 8 << 20  # bytes of a template that is looked at


class Parts(NamedTuple):
    """The parts of a text. `open`: it ends within the reasoning, without an answer."""

    thoughts: str
    answer: str
    open: bool


def parts(text: str) -> Parts:
    """The reasoning in a text and the answer after it.

    The answer is what follows the last closing mark; if another opening mark follows, there is no answer.
    """
    if "<|channel|>" in text:
        return _channels(text)
    if _BARE_CHANNEL.match(text):
        thoughts, final, answer = text.rpartition(_BARE_FINAL)
        return _after(thoughts, answer) if final else Parts(text, "", True)
    return _after("", text)


def _after(thoughts: str, text: str) -> Parts:
    """The answer after `thoughts`, in which more reasoning may be marked."""
    end = 0
    for mark in _CLOSES.finditer(text):
        end = mark.end()
    if _OPENS.search(text, end):
        return Parts(thoughts + text, "", True)
    return Parts(thoughts + text[:end], text[end:].strip(), False)


def _channels(text: str) -> Parts:
    marks = list(_CHANNEL.finditer(text))
    if not marks or marks[-1].group(1) != "final":
        return Parts(text, "", True)
    last = marks[-1]
    answer = _CHANNEL_END.split(text[last.end() :], maxsplit=1)[0]
    return _after(text[: last.start()], answer)


def template_opens(tokenizer: Path | None) -> bool:
    """Whether a model's chat template starts each answer within the reasoning, without an opening mark.

    The template is read, not run: it does if an opening mark, but no closing one, is
    in what it adds for the answer.
    """
    added = _added(tokenizer)
    return added is not None and _opens(added)


def template_leaves_thinking_to_the_model(tokenizer: Path) -> bool:
    """Whether a model has a chat template, and it does not start answers within the reasoning."""
    added = _added(tokenizer)
    return added is not None and not _opens(added)


def _opens(added: str) -> bool:
    return _OPENS.search(added) is not None and _CLOSES.search(added) is None


def _added(tokenizer: Path | None) -> str | None:
    """What a model's chat template has after the last mention of the answer that is to come."""
    if tokenizer is None:
        return None
    for name in _TEMPLATES:
        file = tokenizer / name
        if file.is_file() and file.stat().st_size <= _LARGEST:
            text = file.read_text(encoding="utf-8", errors="replace")
            _, prompt, added = text.rpartition("add_generation_prompt")
            if prompt:
                return added
    return None
