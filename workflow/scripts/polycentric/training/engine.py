"""How a training is computed: precision decided and remembered, networks compiled where that works."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..files import write_json
from ..jobs import SILENT, Log
from ..networks import devices, selfcheck

if TYPE_CHECKING:
    from ..config.training import Engine

Networks = Sequence[tuple[nn.Module, Tensor]]
# auto leaves bfloat16 only where it is clearly slower: a choice by two times that are alike would be one by chance
CLEARLY_SLOWER = 0.8


def decide(
    wanted: Engine,
    device: torch.device,
    networks: Callable[[], Networks],
    memory: Path | None = None,
    *,
    where: str = "training",
    log: Log = SILENT,
) -> devices.Arithmetic:
    """Choose precision and compilation by settings, device and, for bfloat16, a check of the convolutions.

    `networks` gives networks on the device, each with an example of its real shape; it is called only if there is
    something to check. The choice of `auto` is kept in the file `memory`, so that a resumed training takes the same.

    Raises
    ------
    UserError
        for tf32 without CUDA, and for bf16 where it computes wrongly.
    """
    cuda = device.type == "cuda"
    compiled = wanted.compile == "yes" or (wanted.compile == "auto" and cuda and _may_compile(wanted.deterministic))
    if wanted.precision == "tf32" and not cuda:
        raise UserError(f"{where}: engine: precision: tf32 exists on CUDA alone; write fp32 or auto.")
    precision: devices.Precision = "fp32" if wanted.precision == "auto" else wanted.precision
    if wanted.precision == "bf16":
        precision = _checked("bf16", device, networks, where, log)
    elif wanted.precision == "auto" and _suits(device):
        precision = _remembered(memory, device) or _checked("auto", device, networks, where, log)
        if memory is not None:
            write_json(memory, {"device": _described(device), "precision": precision})
    return devices.Arithmetic(device, precision, compiled)


def _suits(device: torch.device) -> bool:
    """Whether the device has units for products of bfloat16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def _may_compile(deterministic: bool) -> bool:
    """Deterministic mode needs a compiler that can be told so."""
    if not deterministic:
        return True
    try:
        import torch._inductor.config as inductor

        inductor.deterministic = True
    except (ImportError, AttributeError):
        return False
    return True


def _described(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return f"{device.type} {name} torch {torch.__version__}"


def _remembered(memory: Path | None, device: torch.device) -> devices.Precision | None:
    if memory is None or not memory.is_file():
        return None
    record = json.loads(memory.read_text(encoding="utf-8"))
    return record["precision"] if record["device"] == _described(device) else None


def _checked(
    wanted: str, device: torch.device, networks: Callable[[], Networks], where: str, log: Log
) -> devices.Precision:
    found = selfcheck.check(networks(), device)
    facts: dict[str, Any] = asdict(found) | {"accurate": found.accurate, "device": _described(device)}
    log.event("bf16 check", **facts)
    if wanted == "bf16":
        if not found.accurate:
            raise UserError(
                f"{where}: engine: precision: bf16 is computed wrongly here (relative error {found.error:.2g} in "
                f"{found.worst}, torch {torch.__version__}); write precision: fp32, or install another torch."
            )
        if found.speed < 1:
            log.event("bf16 is slower than fp32 here", speed=round(found.speed, 2))
        return "bf16"
    if not found.accurate or found.speed < CLEARLY_SLOWER:
        log.event("fp32 it is", because="bf16 is " + ("slower" if found.accurate else "computed wrongly"))
        return "fp32"
    return "bf16"


def compile_networks(networks: Networks, arithmetic: devices.Arithmetic, *, log: Log = SILENT) -> bool:
    """Compile networks in place and try each, forward and backward, on examples; leave them eager if that fails.

    Returns whether they are compiled. Names of weights stay as they are. Training compiles further variants when it
    first needs them (frozen weights, inputs without a gradient); one that fails then runs eager by itself.
    """
    if not arithmetic.compiled:
        return False
    import torch._dynamo

    torch._dynamo.config.suppress_errors = False  # in the trial a failure must show
    modules = list({id(network): network for network, _ in networks}.values())
    try:
        for network in modules:
            network.compile(dynamic=False)
        for network, example in networks:
            with arithmetic.cast():
                result = network(example.clone(memory_format=torch.preserve_format).requires_grad_(True))
            result.float().sum().backward()
    except Exception as error:  # compilers fail in many ways, and eager always works
        for network in modules:
            network._compiled_call_impl = None
        log.event(
            "not compiled, training goes on without", because=f"{type(error).__name__}: {error}".splitlines()[0][:300]
        )
        return False
    finally:
        for network in modules:
            network.zero_grad(set_to_none=True)
    torch._dynamo.config.suppress_errors = True
    log.event("compiled", networks=len(modules))
    return True
