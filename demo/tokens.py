"""The demo tokenizer: byte-level BPE, digits one by one, trained on the texts as the template writes them."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

BEGIN, END = "<|begin|>", "<|end|>"
ROLES = ["<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]
VOCABULARY = 1024
CONTEXT = 4096  # tokens


def wrap(backend: Tokenizer, template: str) -> PreTrainedTokenizerFast:
    """Give the tokenizer its special tokens and its chat template; padding is the end mark, as upstream."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=END,
        additional_special_tokens=ROLES,
        model_max_length=CONTEXT,
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],  # all that the model's forward takes
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    return tokenizer


def train_tokenizer(conversations: Iterable[list[dict]], template: str) -> PreTrainedTokenizerFast:
    """Learn the merges from the messages' contents."""
    backend = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BEGIN, END, *ROLES],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = (message["content"] for messages in conversations for message in messages)
    backend.train_from_iterator(texts, trainer)
    if backend.get_vocab_size() != VOCABULARY:
        raise ValueError(f"the texts yield {backend.get_vocab_size()} tokens, not {VOCABULARY}")
    return wrap(backend, template)


def load(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a checkpoint folder."""
    return PreTrainedTokenizerFast.from_pretrained(folder)


def encode(tokenizer: PreTrainedTokenizerFast, messages: list[dict]) -> list[int]:
    """Token ids of a whole conversation."""
    return tokenizer.apply_chat_template(messages, tokenize=True)
