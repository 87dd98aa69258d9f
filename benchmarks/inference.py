"""Speed and exactness of inference: `python benchmarks/inference.py [--width 16] [--window 32] [--shape 64 64 64] ...`.

Passes one image through the same generator and weights by MONAI's sliding_window_inference and by ours, in turn, and
prints medians, ratios and errors. MONAI is needed here alone (`pip install monai`); without it its rows are left out.
The image is noise, so that no window is constant; rows "with air" have air around a body of 40 % of each side.
Errors are against the plain network in float32, window by window, with our weights; HU of a range of 2,000. MONAI
weights windows otherwise, so its differences are from its own float32. On a CPU, seconds are those of the processor,
since a machine may be busy with other things; the ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))
from polycentric.inference import precision, sliding
from polycentric.inference.prepare import prepare
from polycentric.networks.generator import Generator
from polycentric.networks.layers import LAYOUT, initialise
from polycentric.tiling import Tiling

HALF_RANGE_HU = 1000.0


@dataclass
class Way:
    """A way to translate the image, the one its speed is compared with, and what it made."""

    name: str
    run: Callable[[], torch.Tensor]
    against: str
    exact: str = "loop"
    seconds: list[float] = field(default_factory=list)
    made: torch.Tensor | None = None

    def time(self, device: torch.device) -> None:
        clock = time.process_time if device.type == "cpu" else time.perf_counter
        begun = clock()
        self.made = self.run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds.append(clock() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--width", type=int, default=16, help="channels of the generator's first layer")
    parser.add_argument("--blocks", type=int, default=9, help="residual blocks")
    parser.add_argument("--window", type=int, default=32)
    parser.add_argument("--stride", type=int, default=16, help="half of the window, or a quarter")
    parser.add_argument("--shape", type=int, nargs=3, default=(64, 64, 64), help="voxels along z, y, x")
    parser.add_argument("--batch", type=int, nargs="+", default=[4], help="windows at once; MONAI gets the same")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of a CPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    plain = Generator(3, width=args.width, residual_blocks=args.blocks).eval()
    initialise(plain, 0, deviation=0.05)
    plain = plain.to(device).requires_grad_(False)
    noise = np.random.default_rng(0).normal(0, 0.4, args.shape).astype(np.float32).clip(-1, 1)[None]
    ways = list(make_ways(args, device, plain, noise))
    for repeat in range(args.repeats + 1):  # the first warms up
        for way in ways:
            if repeat == 0 or not way.name.startswith("loop"):
                way.time(device)
            if repeat == 0 and not way.name.startswith("loop"):
                way.seconds.clear()
    report(args, device, ways)


def make_ways(args: argparse.Namespace, device: torch.device, plain: torch.nn.Module, noise: np.ndarray):
    layout = LAYOUT[3]
    last = Generator(3, width=args.width, residual_blocks=args.blocks).eval().requires_grad_(False).to(device)
    last.load_state_dict(plain.state_dict())
    last = last.to(memory_format=layout)
    fast = {last: prepare(plain, channels_last=last) for last in (True, False)}
    air = noise.copy()
    inside = tuple(slice(int(0.3 * n), int(0.7 * n)) for n in noise.shape[1:])
    air[:] = -1
    air[(slice(None), *inside)] = noise[(slice(None), *inside)]
    kinds = ["fp32"]
    if device.type == "cuda":
        kinds += ["tf32", "fp16"]
    elif precision.amx():
        kinds += ["bf16"]
    window = (args.window,) * 3
    grid = Tiling.over(noise.shape[1:], window, (args.stride,) * 3)

    def ours(network: torch.nn.Module, image: np.ndarray, batch: int, kind: str, skip: bool = True) -> torch.Tensor:
        source = sliding.Source.of(image, device)
        run = precision.within(network, kind, device)
        slabs = sliding.stream(source, run, grid, batch=batch, skip=skip)
        return torch.cat([slab.clone() for _, slab in slabs], 1)

    @torch.inference_mode()
    def monai(network: torch.nn.Module, image: np.ndarray, batch: int, kind: str) -> torch.Tensor:
        from monai.inferers import sliding_window_inference

        tensor = torch.from_numpy(image)[None].to(device)
        with precision.using(kind, device):
            made = sliding_window_inference(
                tensor, window, batch, network, overlap=1 - args.stride / args.window, mode="gaussian"
            )
        return made[0].float()

    with contextlib.suppress(ImportError):
        import monai as package  # noqa: F401
    peer = "monai" in sys.modules
    yield Way("loop", partial(ours, plain, noise, 1, "fp32", False), "loop")
    yield Way("loop with air", partial(ours, plain, air, 1, "fp32", False), "loop", "loop with air")
    for batch in args.batch:
        for kind in kinds:
            first = f"MONAI {kind}, {batch}"
            if peer:
                yield Way(first, partial(monai, plain, noise, batch, kind), first, f"MONAI fp32, {batch}")
                name = f"MONAI {kind}, {batch}, channels last"
                yield Way(name, partial(monai, last, noise, batch, kind), first, f"MONAI fp32, {batch}")
            first = first if peer else "loop"
            own = fast[precision.channels_last(kind, device)]
            yield Way(f"ours {kind}, {batch}", partial(ours, own, noise, batch, kind), first)
            if peer:
                first = f"MONAI {kind}, {batch}, with air"
                yield Way(first, partial(monai, plain, air, batch, kind), first, first)
            name = f"ours {kind}, {batch}, with air"
            yield Way(name, partial(ours, own, air, batch, kind), first, "loop with air")
        name = f"ours fp32, {batch}, network as it is"
        yield Way(name, partial(ours, plain, noise, batch, "fp32"), f"MONAI fp32, {batch}" if peer else "loop")


def report(args: argparse.Namespace, device: torch.device, ways: list[Way]) -> None:
    named = {way.name: way for way in ways}
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.processor() or 'CPU'}"
    voxels = int(np.prod(args.shape))
    print(
        f"width {args.width}, {args.blocks} blocks, window {args.window}, stride {args.stride}, image "
        f"{' x '.join(map(str, args.shape))} (z, y, x); {where}, {args.threads} threads, torch {torch.__version__}, "
        f"medians of {args.repeats}\n"
    )
    print("| way | s | voxels/s | faster | than | mean error, HU | largest |\n|---|---|---|---|---|---|---|")
    for way in ways:
        median = statistics.median(way.seconds)
        # of each round, since what else runs on the machine changes from round to round
        ratio = statistics.median(b / a for a, b in zip(way.seconds, named[way.against].seconds, strict=False))
        assert way.made is not None
        error = (way.made - named[way.exact].made).abs() * HALF_RANGE_HU
        print(
            f"| {way.name} | {median:.2f} | {voxels / median:,.0f} | {ratio:.2f} | {way.against} | "
            f"{float(error.mean()):.2g} | {float(error.max()):.2g} |"
        )


if __name__ == "__main__":
    main()
