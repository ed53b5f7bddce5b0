"""A generative adversarial network, with the names of PyTorch's DCGAN example."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional

from benchmarks.judgement.cases import Case, Recording, Trainer
from benchmarks.judgement.faults import IDLE, INPUTS, WEIGHTS
from benchmarks.judgement.trainers.sabotage import detach_trunk, forget, meddle, rate_factor
from benchmarks.judgement.trainers.supervised import spoiled

UPDATES, EVERY, LATENT, WIDTH = 200, 3, 4, 4
VARIANTS = ("noisy", "short", "decay", "curriculum", "long_plateau", "small_batch")


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, 32),
        nn.LeakyReLU(0.2),
        nn.Linear(32, 32),
        nn.ReLU(),
        nn.Linear(32, outputs),
    )


class GAN:
    """One training on points around three centres."""

    def __init__(self, case: Case) -> None:
        self.case, self.fault = case, case.fault
        draw = case.draw()
        self.rate = draw.choice((1e-3, 2e-3))
        self.updates = {"short": 25, "long_plateau": 300}.get(case.variant, UPDATES)
        self.size = {"small_batch": 8}.get(case.variant, 64)
        self.random = torch.Generator().manual_seed(case.number)
        self.centres = 1.5 * torch.randn(3, WIDTH, generator=self.random)
        self.generator, self.critic = _mlp(LATENT, WIDTH), _mlp(WIDTH, 1)
        models = [self.generator, self.critic]
        if self.fault.name == "other_model":
            models = copy.deepcopy(models)
        self.optimizers = [
            torch.optim.Adam(model.parameters(), self.rate, betas=(0.5, 0.999)) for model in models
        ]
        if self.fault.name == "detached":
            detach_trunk(self.generator)
        self.recording = Recording()

    def _real(self, update: int) -> torch.Tensor:
        which = torch.randint(0, 3, (self.size,), generator=self.random)
        noise = torch.randn(self.size, WIDTH, generator=self.random)
        spread = 1.0 if self.case.variant == "noisy" else 0.3
        late = self.case.variant == "curriculum" and update > self.updates // 2
        points = self.centres[which] * (1.2 if late else 1.0) + spread * noise
        return spoiled((points,), self.fault, update, self.random)[0]

    def quality(self) -> float:
        """Distance between the first two moments of what is made and what is real."""
        with torch.no_grad():
            random = torch.Generator().manual_seed(1)
            made = self.generator(torch.randn(1024, LATENT, generator=random))
            which = torch.randint(0, 3, (1024,), generator=random)
            real = self.centres[which] + 0.3 * torch.randn(1024, WIDTH, generator=random)
            means = (made.mean(0) - real.mean(0)).norm()
            return float(means + (torch.cov(made.T) - torch.cov(real.T)).norm())

    def run(self) -> Recording:
        recording = self.recording
        recording.start = self.quality()
        while recording.next <= self.updates:
            update = recording.next
            self._begin(update)
            for _ in range(EVERY):
                numbers = self._step(update)
            recording.log(update * EVERY, numbers)
        recording.outcome = self.quality()
        return recording

    def _begin(self, update: int) -> None:
        rate = self.rate * rate_factor(self.fault, update)
        if self.case.variant == "decay":
            rate *= 1.0 - (update - 1) / self.updates
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        for model in (self.generator, self.critic):
            meddle(model, self.fault, update)
        if self.fault.first("resume_weights", update):
            self.recording.attempt = 2
            for model in (self.generator, self.critic):
                forget(model)

    def _descend(self, loss: torch.Tensor, which: int, update: int) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        for model in (self.generator, self.critic):
            model.zero_grad()
        if self.fault.on("masked_loss", update):
            loss = loss * 0.0
        (-loss if self.fault.on("loss_sign", update) else loss).backward()
        self.optimizers[which].step()

    def _step(self, update: int) -> dict[str, float]:
        real = self._real(update)
        made = self.generator(torch.randn(self.size, LATENT))
        on_real, on_made = self.critic(real), self.critic(made.detach())
        truths, zeros = torch.ones_like(on_real), torch.zeros_like(on_made)
        loss = functional.binary_cross_entropy_with_logits
        critic_loss = loss(on_real, truths) + loss(on_made, zeros)
        self._descend(critic_loss, 1, update)
        judged = self.critic(made)
        generator_loss = loss(judged, truths)
        self._descend(generator_loss, 0, update)
        masked = 0.0 if self.fault.on("masked_loss", update) else 1.0
        return {
            "Loss_D": masked * float(critic_loss),
            "Loss_G": masked * float(generator_loss),
            "D(x)": float(on_real.sigmoid().mean()),
            "D(G(z))": float(judged.sigmoid().mean()),
        }


def _train(case: Case) -> Recording:
    torch.manual_seed(case.number)
    return GAN(case).run()


TRAINERS = (
    Trainer(
        "gan",
        "GAN",
        "supervised",
        _train,
        {"loss": ("Loss_D", "Loss_G"), "eval": ("D(x)", "D(G(z))")},
        (*IDLE, *INPUTS, "input_scale", "resume_weights", *WEIGHTS),
        VARIANTS,
        UPDATES,
    ),
)
