"""A language model of a few thousand parameters and its tokenizer, built on the spot."""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}


def words(count: int) -> list[str]:
    """The vocabulary: what is special, and so many words."""
    return [*SPECIAL.values(), *(f"w{number}" for number in range(count))]


def llm(count: int, hidden: int) -> LlamaForCausalLM:
    """One layer with two heads over so many words; its weights are drawn from torch's generator."""
    sizes = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "max_position_embeddings": 64}
    heads = {"num_hidden_layers": 1, "num_attention_heads": 2}
    special = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    config = LlamaConfig(vocab_size=len(words(count)), **sizes, **heads, **special)
    return LlamaForCausalLM(config)


def word_tokenizer(count: int) -> PreTrainedTokenizerFast:
    """One token for each word."""
    numbers = {word: at for at, word in enumerate(words(count))}
    vocabulary = Tokenizer(models.WordLevel(numbers, "<unk>"))
    vocabulary.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=vocabulary, **SPECIAL)
