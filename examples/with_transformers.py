"""Transformers: a NaN loss that the Trainer's own log does not show.

    pip install ".[transformers]" && python with_transformers.py

The Trainer prints the mean of earlier losses where a loss is NaN. The callback reads the loss
itself: the step is skipped, and the run halts.
"""

import math
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

import watchstep
from watchstep.integrations.transformers import WatchstepCallback


class Overflowing(Trainer):
    """Its loss overflows in the 13th step, as half precision does."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        return loss * math.nan if self.state.global_step == 12 else loss


def main() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
        )
    )
    tokens = torch.randint(3, 64, (256, 16))
    trainer = Overflowing(
        model=model,
        args=TrainingArguments(
            output_dir="out",
            max_steps=40,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=[{"input_ids": row, "labels": row} for row in tokens],
        callbacks=[WatchstepCallback(run="llama", on_critical="halt")],
    )
    try:
        trainer.train()
    except watchstep.TrainingHalted as halted:
        print(f"caught: {halted.rule} at step {trainer.state.global_step}")
    print(f"the Trainer's own log says: loss {trainer.state.log_history[-1]['loss']}")
    finite = all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    print(f"weights finite: {finite}")


if __name__ == "__main__":
    main()
