"""Speed of training: `python benchmarks/training.py [--device cuda] [--width 64] [--patch 64] [--repeats 5]`.

Arrays are simulated; numpy, torch, safetensors and pydantic are enough. The plain loop is written here: float32, eager,
contiguous, a batch of one, six separate passes of the generators and six of the discriminators, Adam as torch has it,
patches from arrays in memory. All variants train networks of the same layers. They run in turn and medians count, so
that other work on the machine falls on all alike. Ratios are against the plain loops of the same run. On a CPU, seconds
are those of the processor (of all threads).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import numpy as np
import torch
from polycentric.config.synthesis import Synthesis
from polycentric.networks import devices
from polycentric.synthesis.augment import Augmenter
from polycentric.synthesis.cyclegan import CycleGan, discriminator, generator
from polycentric.synthesis.domains import Images
from polycentric.training import engine, patches

SCANS = 4


def settings_of(options: argparse.Namespace) -> Synthesis:
    return Synthesis(
        split="main",
        source={"view": "ct"},
        target={"view": "ct", "where": "other"},
        patch=[options.patch] * 3,
        generator={"width": options.width, "residual_blocks": options.blocks},
        discriminator={"width": options.width, "layers": options.layers},
        engine={"deterministic": options.deterministic},
    )


def simulated(number: int, patch: int) -> list[tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(number)
    shape = (patch + 16, 2 * patch, 2 * patch)
    return [(rng.normal(0, 300, shape).astype(np.int16),) for _ in range(SCANS)]


def on_disk(scans: list[tuple[np.ndarray, ...]], folder: Path, name: str) -> list[tuple[np.ndarray, ...]]:
    """The same volumes as files mapped into memory."""
    mapped = []
    for number, (volume,) in enumerate(scans):
        path = folder / f"{name}-{number}.npy"
        np.save(path, volume)
        mapped.append((np.load(path, mmap_mode="r"),))
    return mapped


def images(scans: list[tuple[np.ndarray, ...]], settings: Synthesis, device: torch.device, resident: bool) -> Images:
    rng = np.random.default_rng(0)
    size = patches.full_size(settings.patch)
    augmenter = Augmenter(settings.augment, rng)
    spacings = [(1.0, 1.0, 1.0)] * len(scans)
    return Images(scans, spacings, size, [settings.hu_range], rng, augmenter, device=device, resident=resident)


def plain(settings: Synthesis, domains: dict[str, list], device: torch.device, half: bool) -> Callable[[], None]:
    """One iteration of the plain loop, as the usual implementations of cycle-GANs write it."""
    torch.manual_seed(0)
    format_ = torch.contiguous_format
    ab, ba = (generator(settings).to(device, memory_format=format_) for _ in range(2))
    da, db = (discriminator(settings).to(device, memory_format=format_) for _ in range(2))
    first = torch.optim.Adam([*ab.parameters(), *ba.parameters()], 2e-4, (0.5, 0.999))
    second = torch.optim.Adam([*da.parameters(), *db.parameters()], 2e-4, (0.5, 0.999))
    mse, mae = torch.nn.functional.mse_loss, torch.nn.functional.l1_loss
    rng, size = np.random.default_rng(0), patches.full_size(settings.patch)
    pool: dict[str, list[torch.Tensor]] = {"a": [], "b": []}

    def draw(scans: list[tuple[np.ndarray, ...]]) -> torch.Tensor:
        (volume,) = scans[rng.integers(len(scans))]
        origin = [int(rng.integers(n - s + 1)) for n, s in zip(volume.shape, size, strict=True)]
        patch = patches.scale(patches.cut(volume, origin, size), settings.hu_range)
        return torch.from_numpy(patch)[None, None].to(device)

    def shown(name: str, fake: torch.Tensor) -> torch.Tensor:
        if len(pool[name]) < settings.pool:
            pool[name].append(fake)
            return fake
        if rng.random() < 0.5:
            return fake
        place = int(rng.integers(len(pool[name])))
        old, pool[name][place] = pool[name][place], fake
        return old

    def judged(verdict: torch.Tensor, real: bool) -> torch.Tensor:
        verdict = verdict.float()
        return mse(verdict, torch.full_like(verdict, float(real)))

    def step() -> None:
        a, b = draw(domains["source"]), draw(domains["target"])
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            fake_b = ab(a)
            back_a = ba(fake_b)
            fake_a = ba(b)
            back_b = ab(fake_a)
            same_b, same_a = ab(b), ba(a)
            for judge in (da, db):
                judge.requires_grad_(False)
            loss = judged(db(fake_b), True) + judged(da(fake_a), True)
            loss = loss + 10 * (mae(back_a.float(), a) + mae(back_b.float(), b))
            loss = loss + 5 * (mae(same_b.float(), b) + mae(same_a.float(), a))
        first.zero_grad()
        loss.backward()
        first.step()
        for judge in (da, db):
            judge.requires_grad_(True)
        second.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            for judge, real, fake, name in ((da, a, fake_a, "a"), (db, b, fake_b, "b")):
                old = shown(name, fake.detach())
                (0.5 * (judged(judge(real), True) + judged(judge(old), False))).backward()
        second.step()

    return step


def ours(
    settings: Synthesis, domains: dict[str, list], device: torch.device, precision: str, compiled: bool, resident: bool
) -> tuple[Callable[[], None], CycleGan, bool]:
    made = {name: images(scans, settings, device, resident) for name, scans in domains.items()}
    model = CycleGan(settings, made["source"], made["target"], seed=0, names=("benchmark",), device=device)
    model.arithmetic = devices.Arithmetic(device, precision, compiled)
    done = engine.compile_networks(model.examples(), model.arithmetic)
    return model.step, model, done


def timed(step: Callable[[], None], device: torch.device, times: int) -> float:
    """Seconds per call: of the processor on a CPU, since a machine may be busy with other things."""
    clock = clock_of(device)
    synchronise(device)
    begun = clock()
    for _ in range(times):
        step()
    synchronise(device)
    return (clock() - begun) / times


def clock_of(device: torch.device) -> Callable[[], float]:
    return time.perf_counter if device.type == "cuda" else time.process_time


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def operations(settings: Synthesis) -> float:
    """Floating-point operations of an iteration: counted convolutions, two per multiplication and addition.

    Six passes of the generators forward and twice that backward; discriminators: two passes for the generators, of
    whose gradient the weights' half is spared, and four of their own.
    """

    def forward(network: torch.nn.Module) -> float:
        total = 0.0

        def count(module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            nonlocal total
            transposed = isinstance(module, torch.nn.ConvTranspose3d)
            voxels = (inputs[0] if transposed else output)[0, 0].numel()
            total += 2 * module.weight.numel() * voxels

        kinds = (torch.nn.Conv3d, torch.nn.ConvTranspose3d)
        handles = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, kinds)]
        network(torch.empty(1, 1, *settings.patch, device="meta"))
        for handle in handles:
            handle.remove()
        return total

    with torch.device("meta"):
        generators, judges = forward(generator(settings)), forward(discriminator(settings))
    return 6 * 3 * generators + 2 * 2 * judges + 4 * 3 * judges


def ceiling(device: torch.device, kind: torch.dtype) -> float:
    """Operations per second of a large product of matrices."""
    n = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device).to(kind) for _ in range(2))
    timed(lambda: a @ b, device, 3)
    return 2 * n**3 / min(timed(lambda: a @ b, device, 5) for _ in range(5))


def store_speed(settings: Synthesis, mapped: list, device: torch.device, resident: bool, seconds: float = 1.0) -> float:
    """Patches per second from a store: picked, cut, scaled, on the device."""
    source = images(mapped, settings, device, resident)
    source.draw(8)
    synchronise(device)
    clock, done = clock_of(device), 0
    begun = clock()
    while clock() - begun < seconds:
        source.draw(8)
        synchronise(device)
        done += 8
    return done / (clock() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--width", type=int, default=64 if cuda else 8)
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--layers", type=int, default=3 if cuda else 2)
    parser.add_argument("--patch", type=int, default=64 if cuda else 32)
    parser.add_argument("--repeats", type=int, default=7 if cuda else 5)
    parser.add_argument("--steps", type=int, default=10 if cuda else 1, help="iterations per timing")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--deterministic", action="store_true", help="deterministic algorithms on CUDA, as in a study")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    settings = settings_of(options)
    device = devices.prepare(options.device, options.threads, deterministic=options.deterministic)
    cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else f"{options.threads} threads, {platform.machine()}"
    amx = not cuda and bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())
    print(f"device {name}{' with AMX' if amx else ''}, torch {torch.__version__}, width {options.width}, patch "
          f"{options.patch}^3, {options.blocks} residual blocks, deterministic: {options.deterministic}")  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        held = {domain: simulated(n, options.patch) for n, domain in enumerate(("source", "target"))}
        mapped = {domain: on_disk(scans, Path(folder), domain) for domain, scans in held.items()}
        variants: dict[str, tuple[Callable[[], None], str]] = {}
        models: dict[str, CycleGan] = {}

        def add(label: str, precision: str, compiled: bool) -> None:
            step, model, done = ours(settings, held if cuda else mapped, device, precision, compiled, cuda)
            if compiled and not done:
                print(f"{label}: not compiled here")
                return
            variants[label], models[label] = (step, precision), model

        variants["plain fp32"] = (plain(settings, held, device, False), "fp32")
        variants["plain bf16 autocast"] = (plain(settings, held, device, True), "bf16")
        add("ours fp32", "fp32", False)
        add("ours bf16", "bf16", False)
        if cuda:
            add("ours tf32", "tf32", False)
            add("ours fp32 compiled", "fp32", True)
            add("ours bf16 compiled", "bf16", True)
        times: dict[str, list[float]] = {label: [] for label in variants}
        for turn in range(options.repeats + 1):
            for label, (step, precision) in variants.items():
                devices.tf32(precision == "tf32")
                if turn == 0:
                    timed(step, device, 2 if not cuda else 5)  # allocates, chooses algorithms
                else:
                    times[label].append(timed(step, device, options.steps))
        devices.tf32(False)
        medians = {label: statistics.median(found) for label, found in times.items()}
        work = operations(settings)
        peak = {"fp32": ceiling(device, torch.float32), "bf16": ceiling(device, torch.bfloat16)}
        devices.tf32(True)
        peak["tf32"] = ceiling(device, torch.float32)
        devices.tf32(False)
        print(f"operations of an iteration: {work / 1e12:.3f} T; matmul ceiling, T/s: "
              + ", ".join(f"{k} {v / 1e12:.2f}" for k, v in peak.items() if cuda or k != "tf32"))  # fmt: skip
        print(f"\n| training | it/s | against plain fp32 | against plain bf16 | of ceiling | data |\n{'|---' * 6}|")
        figures = []
        for label, (_, precision) in variants.items():
            seconds = medians[label]
            share = work / seconds / peak[precision]
            data = None
            if label in models:  # drawing by itself, so that nothing of it hides behind the network's work
                model = models[label]
                both = lambda model=model: [model.draw(domain) for domain in model.samplers]  # noqa: E731
                data = statistics.median(timed(both, device, options.steps) for _ in range(5)) / seconds
            figures.append({"variant": label, "per_s": 1 / seconds, "of_ceiling": share, "data_share": data})
            print(f"| {label} | {1 / seconds:.3f} | {medians['plain fp32'] / seconds:.2f} | "
                  f"{medians['plain bf16 autocast'] / seconds:.2f} | {share:.1%} | "
                  f"{'' if data is None else f'{data:.2%}'} |")  # fmt: skip
        print("\n| store | patches/s |\n|---|---|")
        cube = SimpleNamespace(**{**settings.__dict__, "patch": (64, 64, 64)})
        large = [(v,) for v in (np.random.default_rng(0).normal(0, 300, (160, 256, 256)).astype(np.int16),)]
        for label, scans, kept in (("mapped", on_disk(large, Path(folder), "large"), False), ("device", large, True)):
            speed = store_speed(cube, scans, device, kept)
            figures.append({"variant": f"store {label}", "per_s": speed})
            print(f"| {label}, 64^3 | {speed:,.0f} |")
    if options.json:
        options.json.write_text(json.dumps({"device": name, "torch": torch.__version__, "figures": figures}, indent=1))


if __name__ == "__main__":
    main()
