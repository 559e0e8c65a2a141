"""Muon for the hidden matrices, AdamW for the rest, one warm-up and one cosine counted in steps.

Source: K. Jordan et al., Muon (2024), as in `torch.optim.Muon`; step size matched to AdamW's root mean square.
"""

import math
from collections.abc import Iterable
from typing import Any, Final

import torch

_CLIP_NORM: Final = 2.0
_FINAL_SHARE: Final = 0.02


class Optimiser:
    """Updates named parameters; matrices called embed, head or lm_head are left to AdamW."""

    def __init__(self, named: Iterable[tuple[str, Any]], *, learning_rate: float, steps: int, warm_up: int) -> None:
        self._rate, self._steps, self._warm_up, self._step = learning_rate, steps, warm_up, 0
        matrices: list[Any] = []
        rest: list[Any] = []
        for name, parameter in named:
            is_hidden = parameter.ndim == 2 and not any(part in name for part in ("embed", "lm_head", "heads."))
            (matrices if is_hidden else rest).append(parameter)
        self._parameters = matrices + rest
        muon = torch.optim.Muon(
            matrices, lr=learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw", ns_steps=4
        )
        adam = torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
        self._optimisers = (muon, adam)

    def step(self) -> None:
        """Clip, update, clear the gradients and move along the schedule."""
        torch.nn.utils.clip_grad_norm_(self._parameters, _CLIP_NORM)
        rate = self._rate * schedule(self._step, self._steps, self._warm_up)
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self._step += 1


def schedule(step: int, steps: int, warm_up: int) -> float:
    """Return the share of the learning rate at a step: linear warm-up, then a cosine down to 2 %."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return min(1.0, (step + 1) / warm_up) * (_FINAL_SHARE + (1 - _FINAL_SHARE) * cosine)
