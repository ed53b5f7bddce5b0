"""TRL: a GRPO trainer whose advantages are divided by a leave-one-out deviation.

    pip install ".[trl]" && python with_trl.py

Where all other completions of a group earn the same, the deviation of the others is next to
nothing, and one advantage becomes huge. Divided by the group's own deviation it never could.
"""

from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

import watchstep
from watchstep.integrations.trl import WatchstepCallback

SPECIAL = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
WORDS = [*SPECIAL.values(), *(f"w{number}" for number in range(29))]


class LeaveOneOut(GRPOTrainer):
    def _generate_and_score_completions(self, inputs: Any) -> Any:
        generate_and_score_completions = super()._generate_and_score_completions(inputs)
        grouped = generate_and_score_completions["advantages"].reshape(-1, self.num_generations)
        others = torch.stack(
            [torch.cat([grouped[:, :k], grouped[:, k + 1 :]], dim=1).std(dim=1) for k in range(4)],
            dim=1,
        )
        generate_and_score_completions["advantages"] = (grouped / (others + 1e-6)).reshape(-1)
        return generate_and_score_completions


def reward(completions: list[str], **_: Any) -> list[float]:
    return [
        float("w5 w6" in completion or completion.startswith("w7")) for completion in completions
    ]


def main() -> None:
    torch.manual_seed(0)
    words = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    sizes = {"vocab_size": len(WORDS), "hidden_size": 16, "intermediate_size": 32}
    heads = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    trainer = LeaveOneOut(
        model=LlamaForCausalLM(LlamaConfig(**sizes, **heads, pad_token_id=0, eos_token_id=1)),
        processing_class=PreTrainedTokenizerFast(tokenizer_object=words, **SPECIAL),
        args=GRPOConfig(
            output_dir="out",
            max_steps=60,
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=6,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
        ),
        reward_funcs=reward,
        train_dataset=Dataset.from_dict({"prompt": ["w1 w2", "w3 w4"] * 8}),
        callbacks=[WatchstepCallback(run="grpo", on_critical="halt")],
    )
    try:
        trainer.train()
    except watchstep.TrainingHalted as halted:
        print(f"caught: {halted.rule} before step {trainer.state.global_step + 1}")


if __name__ == "__main__":
    main()
