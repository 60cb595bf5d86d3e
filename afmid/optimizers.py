"""What a training run moves a network's weights with."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from afmid.recipe import Recipe

BETA2 = 0.999  # of AdamW


class Muon(torch.optim.Muon):
    """Muon for weights of two axes or more; a convolution's are taken as a matrix with a row per first channel.

    The momentum of each matrix is replaced by the nearest orthogonal matrix, so that all directions are learnt at one
    pace: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024).
    """

    def __init__(self, weights: Iterable[nn.Parameter], **settings: Any):
        self.weights = list(weights)
        self.axes = [_in_memory(weight) for weight in self.weights]
        pairs = zip(self.weights, self.axes, strict=True)
        self.matrices = [nn.Parameter(weight.detach().permute(axes).view(len(weight), -1)) for weight, axes in pairs]
        super().__init__(self.matrices, **settings)

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step; the weights change in place, since the matrices are views of them."""
        for weight, axes, matrix in zip(self.weights, self.axes, self.matrices, strict=True):
            matrix.grad = None if weight.grad is None else weight.grad.permute(axes).reshape(matrix.shape)
        super().step(closure)  # type: ignore[no-untyped-call]


class Optimizers:
    """The optimizers that a recipe asks for, as one.

    AdamW moves all weights, or beside Muon those of one axis.
    """

    def __init__(self, weights: Iterable[nn.Parameter], recipe: Recipe):
        weights = list(weights)
        matrices = [weight for weight in weights if weight.ndim > 1 and recipe.optimizer == "muon"]
        taken = {id(weight) for weight in matrices}
        others = [weight for weight in weights if id(weight) not in taken]
        decay = recipe.weight_decay
        self.parts: list[torch.optim.Optimizer] = []
        if others:
            adamw = torch.optim.AdamW(others, lr=recipe.learning_rate, betas=(recipe.beta1, BETA2), weight_decay=decay)
            self.parts.append(adamw)
        if matrices:
            self.parts.append(Muon(matrices, lr=recipe.matrix_rate, weight_decay=decay))
        self.rates = [group["lr"] for part in self.parts for group in part.param_groups]

    def step(self, schedule: float) -> None:
        """Take one step at a share of the highest learning rates."""
        groups = [group for part in self.parts for group in part.param_groups]
        for group, rate in zip(groups, self.rates, strict=True):
            group["lr"] = schedule * rate
        for part in self.parts:
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """Return what a checkpoint keeps."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Go on from a checkpoint."""
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def _in_memory(weight: nn.Parameter) -> list[int]:
    """Return the axes of a weight: the first, then the others as they lie in memory, channels last or not."""
    strides = weight.stride()
    return sorted(range(weight.ndim), key=lambda axis: (axis > 0, -strides[axis]))
