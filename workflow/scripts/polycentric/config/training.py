"""Section `engine` of a model: how its training is computed, not what is trained."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from .base import Section


class Engine(Section):
    """Arithmetic, memory and devices of a training."""

    precision: Literal["auto", "fp32", "tf32", "bf16"] = Field(
        "auto",
        description="arithmetic of convolutions: fp32 (exact), tf32 (CUDA alone) or bf16 (autocast; weights, "
        "sums and losses stay fp32); auto: bf16 on a GPU of compute capability 8 or more and on a CPU with "
        "AMX, if a check at the start finds it accurate and not slower, else fp32. The weights depend on it",
    )
    deterministic: bool = Field(
        True,
        description="on a GPU, take only algorithms that give the same bytes every time, so that a resumed training "
        "equals an undisturbed one; no: faster. On a CPU it is always so",
    )
    compile: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="compile the networks with torch.compile; where that fails, training goes on without. auto: on a "
        "GPU alone",
    )
    store: Literal["auto", "device", "memory-mapped"] = Field(
        "auto",
        description="where patches are cut from: volumes held in the memory of the device, or files mapped into "
        "memory with the next patches cut meanwhile; the patches are the same. auto: on a GPU if all volumes fit into "
        "half of its free memory",
    )
    devices: PositiveInt = Field(
        1,
        description="GPUs (on a CPU: processes) of one machine that share each batch, which must be a multiple; "
        "weights are those of one device but for the order of sums",
    )
    samples_every: PositiveInt = Field(
        5000, description="iterations from one sheet of sample pictures to the next; the last is always drawn"
    )
    samples_window: tuple[float, float] | None = Field(
        None,
        description="values of the target drawn black and white in sample pictures, in HU for CT; empty: the range of "
        "training",
    )
    samples_window_source: tuple[float, float] | None = Field(
        None,
        description="the same of the source; empty: that of the target where both have one range, else the source's "
        "range of training",
    )

    @model_validator(mode="after")
    def _rises(self) -> Self:
        for name in ("samples_window", "samples_window_source"):
            window = getattr(self, name)
            if window is not None and window[0] >= window[1]:
                raise ValueError(f"{name} {list(window)} must rise; write the lower value first")
        return self
