"""Units that carry nothing: ReLUs that are never active, tanhs that never leave their ends.

Seen by forward hooks, now and then, without a synchronisation: what was measured stays on the
device until the next update reads it with the other readings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

ACTIVE_SHARE = 0.01
"""A unit is dead that is active for less than this share of the inputs, and saturated that is
away from its ends for less; SageMaker Debugger's `threshold_inactivity` of DeadRelu and
SaturatedActivation, 1 %."""
NEAR_ONE = 1.0 - 1.2e-7
"""A tanh or sigmoid above this is 1 in float32, and its gradient 0: SageMaker's 9.4999 and 17."""
NEAR_ZERO = 1.1e-10
"""A sigmoid below this has no gradient left that matters: SageMaker's input of -23."""

Moves = Callable[[torch.Tensor], torch.Tensor]
_DEAD, _SATURATED = "guard/dead_units", "guard/saturated_units"
_KINDS: dict[type, tuple[str, Moves]] = {
    nn.ReLU: (_DEAD, lambda units: units > 0),
    nn.ReLU6: (_DEAD, lambda units: units > 0),
    nn.Tanh: (_SATURATED, lambda units: units.abs() < NEAR_ONE),
    nn.Sigmoid: (_SATURATED, lambda units: (units > NEAR_ZERO) & (units < NEAR_ONE)),
}
"""Of a module its reading, and where a unit of it lets something through or has a gradient."""


class Units:
    """Watches the activations of one model.

    Modules `nn.ReLU`, `nn.ReLU6`, `nn.Tanh` and `nn.Sigmoid` are seen; functions such as
    `torch.relu` are no modules and are not. Under `torch.compile` nothing is measured. A unit
    is a channel where a module gives four dimensions or more, and a last dimension otherwise.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        every: int = 50,
        survive: Callable[..., Any] | None = None,
    ) -> None:
        """Put the hooks in place; `detach` takes them out.

        Args:
            model: Any module; nothing of it is changed.
            every: At least 1.
            survive: Calls a function on behalf of a training loop that must go on.

        Raises:
            ValueError: `every` is below 1, or the model has no module of these kinds.
        """
        if every < 1:
            raise ValueError(f"every must be 1 or more, not {every}")
        self.model, self.every = model, every
        self._survive = survive or (lambda function, *args: function(*args))
        self._passes = 0
        self._shares: dict[str, list[torch.Tensor]] = {}
        seen = [module for module in model.modules() if type(module) in _KINDS]
        if not seen:
            raise ValueError("the model has no nn.ReLU, nn.ReLU6, nn.Tanh or nn.Sigmoid to observe")
        self._handles = [model.register_forward_pre_hook(self._count)]
        for module in seen:
            self._handles.append(module.register_forward_hook(self._hook(*_KINDS[type(module)])))

    def readings(self) -> dict[str, torch.Tensor]:
        """The worst layer's share of units since the last call: 0-d tensors, on their devices.

        Names: `guard/dead_units`, `guard/saturated_units`, from 0 to 1; those not measured
        since are left out.
        """
        by_name, self._shares = self._shares, {}
        return {name: torch.stack(shares).max() for name, shares in by_name.items()}

    def detach(self) -> None:
        """Take the hooks out. Twice is harmless."""
        for handle in self._handles:
            handle.remove()

    def _count(self, _module: Any, _inputs: Any) -> None:
        self._passes += 1

    def _hook(self, name: str, measure: Moves) -> Callable[[Any, Any, Any], None]:
        def seen(_module: Any, _inputs: Any, output: Any) -> None:
            if self._passes % self.every == 0 and not torch.compiler.is_compiling():
                self._survive(self._measure, name, measure, output)

        return seen

    def _measure(self, name: str, measure: Moves, output: torch.Tensor) -> None:
        if output.dim() < 2 or not output.numel():
            return
        with torch.no_grad():
            channels = 1 if output.dim() >= 4 else output.dim() - 1
            units = output.detach().movedim(channels, -1).flatten(0, -2)
            share = (measure(units).float().mean(0) < ACTIVE_SHARE).float().mean()
        # A loop that never logs must not pile them up.
        shares = self._shares.setdefault(name, [])
        if len(shares) < 256:
            shares.append(share)
