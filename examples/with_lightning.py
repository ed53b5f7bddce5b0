"""Lightning: one batch in the data set holds an infinity.

    pip install ".[lightning]" && python with_lightning.py

Its step is skipped in the trainer, weights and optimizer state keep every bit, and training goes
on; with on_critical="halt" it would stop here instead.
"""

import math

import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from watchstep import Action
from watchstep.integrations.lightning import WatchstepCallback


class Regression(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1)
        )

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        inputs, targets = batch
        return torch.nn.functional.mse_loss(self.layers(inputs), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def batches() -> DataLoader[tuple[torch.Tensor, ...]]:
    inputs = torch.randn(800, 8)
    targets = inputs.sum(dim=1, keepdim=True)
    targets[403] = math.inf
    return DataLoader(TensorDataset(inputs, targets), batch_size=8)


def main() -> None:
    torch.manual_seed(0)
    module = Regression()
    callback = WatchstepCallback(run="regression")
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[callback],
    )
    trainer.fit(module, batches())
    assert callback.watch is not None
    first = next(
        transition for transition in callback.watch.transitions if transition.action is Action.SKIP
    )
    finite = all(bool(parameter.isfinite().all()) for parameter in module.parameters())
    print(f"caught: {first.rule} ({first.reason})")
    print(f"steps: {trainer.global_step}, weights finite: {finite}")


if __name__ == "__main__":
    main()
