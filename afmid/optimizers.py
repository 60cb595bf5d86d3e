"""What a training run moves a network's weights with."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from afmid.recipe import Recipe

BETA2 = 0.999  # of AdamW
MOMENTUM = 0.95  # of Muon
NEWTON_SCHULZ = 3.4445, -4.7750, 2.0315
STEPS = 5


class Muon(torch.optim.Optimizer):
    """Muon for weights of two axes or more; a convolution's are taken as a matrix with a row per first channel.

    The momentum of each matrix is replaced by the nearest orthogonal matrix, so that all directions are learnt at one
    pace: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). torch.optim.Muon does the
    same in bfloat16, which processors without it only emulate: there it takes longer than the rest of the step.
    """

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0):
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step; a weight without a gradient stays."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if weight not in self.state:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
                mean = self.state[weight]["momentum"]
                mean.lerp_(weight.grad, 1 - MOMENTUM)
                update = weight.grad.lerp(mean, MOMENTUM).flatten(1)
                longer = math.sqrt(max(1, len(update) / update.shape[1]))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(orthogonal(update).view_as(weight), alpha=-group["lr"] * longer)


def orthogonal(matrix: Tensor) -> Tensor:
    """Return about the nearest matrix whose singular values are one, by five Newton-Schulz steps (Jordan et al., 2024).

    Their polynomial leaves the values between about 0.7 and 1.2, which is near enough. Each step multiplies the matrix
    by a polynomial in its product with its own transpose, so that the steps are taken on that small square and the
    matrix, often much longer, is multiplied once.
    """
    flat = len(matrix) <= matrix.shape[1]
    x = matrix if flat else matrix.T
    x = x / x.norm().clamp_min(1e-7)
    gram = x @ x.T
    total = factor = _polynomial(gram)
    for _ in range(STEPS - 1):
        gram = factor @ gram @ factor
        factor = _polynomial(gram)
        total = factor @ total
    nearest: Tensor = total @ x
    return nearest if flat else nearest.T


def _polynomial(gram: Tensor) -> Tensor:
    a, b, c = NEWTON_SCHULZ
    factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal().add_(a)
    return factor


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
