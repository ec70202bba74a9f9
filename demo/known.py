"""python -m demo.known                  # asks demo/model its known questions, rewrites known_answers.json

Questions that occur often in the training texts, so that a sound copy of the model answers them under
greedy decoding: a checkpoint that does not is broken, however small its file differences look. Nothing
is written unless the FP8 model gets every one of them right.
"""

from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from demo import fp8, tokens
from demo.domains import arithmetic, chat, coding, stem, tools
from demo.perplexity import MODEL, load_model

ANSWERS = Path(__file__).parent / "known_answers.json"
CHAT_WORDS = ["Paris", "Rome", "seven", "blue"]  # in the order of chat.KNOWN
STEM_WORDS = ["Au", "Mercury", "H2O", "gravity"]  # in the order of stem.KNOWN
NEW_TOKENS = 96  # the longest known answer has fewer


def questions() -> list[dict]:
    """Every known question: its dataset, its messages, and a string that the answer must contain."""
    asked: list[tuple[str, str | None, str, str]] = []
    for item in coding.KNOWN:
        asked.append(("open_code_reasoning", None, item.question, item.solution))
    for problem in arithmetic.KNOWN:
        asked.append(("open_math_reasoning", None, problem.problem, f"\\boxed{{{problem.answer}}}"))
    for turns, word in zip(chat.KNOWN, CHAT_WORDS, strict=True):
        asked.append(("magpie_pro_mt", None, turns[0], word))
    for exchange, word in zip(stem.KNOWN, STEM_WORDS, strict=True):
        asked.append(("nemotron_post_training_v2", "/no_think", exchange.question, word))
    for session in tools.known():
        system = tools.system_prompt(session.tools)
        asked.append(("llama_nemotron", system, session.messages[0]["content"], session.answer))
    result = []
    for dataset, system, question, expected in asked:
        messages = [] if system is None else [{"role": "system", "content": system}]
        messages.append({"role": "user", "content": question})
        result.append({"dataset": dataset, "expected": expected, "messages": messages})
    return result


@torch.no_grad()
def answer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, messages: list[dict]) -> str:
    """The greedy answer, up to the end mark."""
    prompt = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**prompt, do_sample=False, top_k=None, top_p=None, max_new_tokens=NEW_TOKENS)
    return tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)


def main() -> None:
    """Ask, print, and write the file if all is right."""
    model, tokenizer = load_model(MODEL), tokens.load(MODEL)
    wrong = 0
    for question in questions():
        said = answer(model, tokenizer, question["messages"])
        right = question["expected"] in said
        wrong += not right
        print(f"{'right' if right else 'WRONG'}  {question['messages'][-1]['content']}  ->  {said!r}")
    if wrong:
        raise SystemExit(f"{wrong} known questions answered wrongly; {ANSWERS.name} is unchanged")
    fp8.write_json(ANSWERS, questions())


if __name__ == "__main__":
    main()
