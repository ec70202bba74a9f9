"""A model's thoughts, told from its answer by the marks that models put around them."""

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
    """An answer's text. `open`: it ends within thoughts, and there is no answer yet."""

    thoughts: str
    answer: str
    open: bool


def parts(text: str) -> Parts:
    """The thoughts in a text and the answer after them.

    The answer is what follows the last mark that closes thoughts; one that opens some after it leaves none.
    """
    if "<|channel|>" in text:
        return _channels(text)
    if _BARE_CHANNEL.match(text):
        thoughts, final, answer = text.rpartition(_BARE_FINAL)
        return _after(thoughts, answer) if final else Parts(text, "", True)
    return _after("", text)


def _after(thoughts: str, text: str) -> Parts:
    """What follows thoughts, in which there may be more between marks."""
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
    """Whether a model's chat template begins each answer within thoughts, so that no mark opens them.

    The template is read, not run: it does when a mark that opens thoughts, and none that closes them, stands
    in what it adds for the answer.
    """
    if tokenizer is None:
        return False
    for name in _TEMPLATES:
        file = tokenizer / name
        if file.is_file() and file.stat().st_size <= _LARGEST:
            text = file.read_text(encoding="utf-8", errors="replace")
            _, prompt, added = text.rpartition("add_generation_prompt")
            if prompt:
                return _OPENS.search(added) is not None and _CLOSES.search(added) is None
    return False
