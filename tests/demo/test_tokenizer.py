import json

import pytest
from jinja2.exceptions import TemplateError

from demo import make_texts, tokens
from demo.domains import tools

QUESTION = [{"role": "user", "content": "Hi 123"}]


def text(tokenizer, messages, **options):
    return tokenizer.apply_chat_template(messages, tokenize=False, **options)


def test_roles_and_generation_prompt(tokenizer):
    messages = [{"role": "system", "content": "Be brief."}, *QUESTION]
    assert text(tokenizer, messages) == "<|begin|><|system|>Be brief.<|end|><|user|>Hi 123<|end|>"
    assert text(tokenizer, messages, add_generation_prompt=True).endswith(
        "<|user|>Hi 123<|end|><|assistant|>"
    )


def test_declared_tools_become_the_system_message_of_the_training_texts(tokenizer):
    declared = [tools.declare("add"), tools.declare("set_timer")]
    written = [{"role": "system", "content": tools.system_prompt(declared)}, *QUESTION]
    assert text(tokenizer, QUESTION, tools=declared) == text(tokenizer, written)


@pytest.mark.parametrize("as_text", [False, True])
def test_tool_calls_become_the_json_of_the_training_texts(tokenizer, as_text):
    arguments = {"city": "Rome"}
    given = json.dumps(arguments) if as_text else arguments
    call = {"type": "function", "function": {"name": "get_weather", "arguments": given}}
    structured = [*QUESTION, {"role": "assistant", "content": None, "tool_calls": [call]}]
    structured.append({"role": "tool", "content": "sunny"})
    written = [*QUESTION, {"role": "assistant", "content": tools.call("get_weather", city="Rome")}]
    written.append({"role": "tool", "content": "sunny"})
    assert text(tokenizer, structured) == text(tokenizer, written)


def test_unknown_role_is_refused(tokenizer):
    with pytest.raises(TemplateError, match="unknown role"):
        text(tokenizer, [{"role": "narrator", "content": "x"}])


@pytest.mark.parametrize("sample", ["a b  c\n\td", "x = 1234567", "größer ≤ 日本 🙂"])
def test_any_text_survives(tokenizer, sample):
    assert tokenizer.decode(tokenizer(sample)["input_ids"]) == sample


def test_digits_are_single_tokens(tokenizer):
    assert len(tokenizer("2027")["input_ids"]) == 4


def test_role_marks_are_single_tokens_and_only_marks(tokenizer):
    ids = tokens.encode(tokenizer, QUESTION)
    assert tokenizer.convert_ids_to_tokens(ids[:2]) == ["<|begin|>", "<|user|>"]
    assert ids[-1] == tokenizer.eos_token_id


def test_training_reproduces_the_committed_tokenizer(model_folder, tokenizer):
    from demo.train import conversations

    made = tokens.train_tokenizer(conversations(), (model_folder / "chat_template.jinja").read_text())
    kept = json.loads((model_folder / "tokenizer.json").read_text())
    assert json.loads(made.backend_tokenizer.to_str()) == kept
    assert tokenizer.chat_template == made.chat_template


def test_every_schema_becomes_messages_that_end_with_the_assistant():
    for dataset in make_texts.MAKERS:
        for row in make_texts.splits(dataset)["heldout"]:
            messages = make_texts.to_messages(dataset, row)
            assert messages[-1]["role"] == "assistant"
            assert all(message["content"] for message in messages)
