"""The bench's small language model, as the tests of integrations want it."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.judgement.trainers.tiny_llm import llm, word_tokenizer, words

COUNT = 29


def tiny_llm(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return llm(COUNT, hidden=16)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    return word_tokenizer(COUNT)


def sentences(count: int = 64) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, len(words(COUNT)), (count, 8), generator=generator)
    return [{"input_ids": row, "labels": row} for row in tokens]
