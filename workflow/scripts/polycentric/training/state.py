"""What a checkpoint holds of networks, optimizers and torch's random stream."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def of_optimizer(optimizer: Optimizer, prefix: str) -> dict[str, Tensor]:
    """State tensors of an optimizer, named by the position of their parameter."""
    tensors = {}
    for number, parameter in enumerate(_parameters(optimizer)):
        for name, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{prefix}.{number}.{name}"] = torch.as_tensor(value)
    return tensors


def into_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor], prefix: str) -> None:
    """Restore an optimizer. Each tensor takes its parameter's layout in memory, as if it had never been away."""
    parameters = _parameters(optimizer)
    start = prefix + "."
    for full, value in sorted(tensors.items()):
        if full.startswith(start):
            number, name = full.removeprefix(start).split(".")
            parameter = parameters[int(number)]
            if value.shape == parameter.shape:
                value = torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(value)
            elif optimizer.defaults.get("fused"):
                value = value.to(parameter.device)
            optimizer.state[parameter][name] = value.detach().clone()


def of_random() -> dict[str, Tensor]:
    """State of torch's own random streams, for layers that draw, such as dropout."""
    tensors = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    return tensors


def into_random(tensors: dict[str, Tensor]) -> None:
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])


def freeze(network: nn.Module, frozen: bool) -> None:
    """Spare the gradients of a network's weights, not those of its input."""
    for parameter in network.parameters():
        parameter.requires_grad_(not frozen)


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]
