"""Train a synthesis model: select, check, train, write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .. import ledger as ledgers
from ..files import hash_of, sha256_file, write_json
from ..jobs import SILENT, Log
from ..networks import devices, discriminator
from ..networks import weights as weight_files
from ..randomness import generator as stream
from ..randomness import integer_seed
from ..training import adopt, loop, patches, store, watch
from ..training import engine as engines
from ..training import samples as pictures
from ..training import team as teams
from . import ENGINE_VERSION, start
from . import domains as images
from .augment import Augmenter
from .cyclegan import CycleGan

if TYPE_CHECKING:
    from ..config.synthesis import Synthesis
    from .domains import Row

# settings that do not change the weights: those of inference, and how training is saved and watched; the weights that
# training starts from are known by their hash, not by where they lie, and what the engine does is noted as decided
BESIDE_TRAINING = {"inference", "checkpoint_minutes", "checkpoint_iterations", "device", "start_from", "engine"}
AUTO_LIMIT_S = 2 * 3600.0
SAMPLED = 2  # scans of each domain in sample pictures


def train(
    name: str,
    settings: Synthesis,
    *,
    seed: int,
    scans: Path,
    patients: Path,
    split: Path,
    manifests: list[Path],
    root: Path,
    work: Path,
    fold: str,
    weights: Path,
    settings_out: Path,
    history: Path,
    ledger: Path,
    samples: Path,
    device: str,
    upstream: list[Path],
    settings_json: str,
    code: str,
    log: Log = SILENT,
) -> None:
    """Train model `name` on the training patients of a split and write its weights, settings, history and ledger.

    `manifests` are those of the source's and the target's view; training state is kept below `work`, in a folder named
    by the hash of all that decides the weights. `samples` is a zip archive of sheets of pictures, one per
    `engine: samples_every` iterations; while training they lie in the folder `samples` beside the training state. With
    `engine: devices` above 1 further processes call this function, too, with the same arguments.

    Raises
    ------
    UserError
        for a domain without scans, images that cannot be trained on, a leak, divergence, or too long a training.
    Interrupted
        after SIGTERM or SIGUSR1; the next call goes on from there.
    """
    arguments = {key: value for key, value in locals().items() if key != "log"}
    where = f"synthesis: {name}"
    if settings.import_ is not None:
        start.refuse_other(settings, settings.import_, where)
        files = adopt.Outputs(weights, settings_out, history, ledger)
        adopt.adopt(
            name, settings.import_, files, stage="synthesis", split=settings.split, patients=split,
            settings_json=settings_json, code=code, where=where, log=log,
        )  # fmt: skip
        pictures.hand_over(work / "none", samples, 0)
        return
    engine = settings.engine
    place = devices.prepare(
        settings.device or device,
        settings.threads,
        deterministic=engine.deterministic,
        index=teams.own_rank(),
        count=engine.devices,
    )
    domains, used, elsewhere = _domains(settings, scans, patients, split, manifests, upstream, where, log)
    with teams.assemble(engine.devices, train, arguments, cuda=place.type == "cuda", where=where) as team:
        identity = {"engine_version": ENGINE_VERSION, "name": name, "fold": fold, "seed": seed}
        model = _model(settings, domains, root, (name, fold), seed, place, team, where, log)
        facts = identity | {
            "device": place.type,
            "settings": settings.model_dump(mode="json", exclude=BESIDE_TRAINING),
            "start_from": settings.start_from.sha256 if settings.start_from else None,
            "scans": {
                domain: sorted([fact for row in rows for fact in (row["scan"], row["sha256"])] for rows in found)
                for domain, found in domains.items()
            },
        }
        facts["engine"] = _engine(settings, model, work / f"{hash_of(facts)[:32]}.json", team, where, log)
        key = hash_of(facts)
        folder = work / key[:32]
        log.event("model", key=key[:16], device=place.type, **facts["engine"])
        seen = discriminator.receptive_field(settings.discriminator.layers, settings.discriminator.flat)
        log.event("discriminators", voxels_seen_by_a_verdict=seen, patch=list(settings.patch))
        auto_on_cpu = (settings.device or device) == "auto" and place.type == "cpu"
        plan = loop.Plan(
            settings.iterations,
            settings.history_every,
            settings.checkpoint_minutes,
            settings.checkpoint_iterations,
            AUTO_LIMIT_S if auto_on_cpu else None,
            engine.samples_every,
        )
        hooks = loop.Hooks(
            observe=model.observe,
            warn=model.watch().warnings,
            sample=_sampler(settings, model, folder / "samples") if team.leads else None,
            waited_s=lambda: model.data_s,
        )
        try:
            told = loop.run(model, plan, name=where, folder=folder, key=key, hooks=hooks, team=team, log=log)
        finally:
            model.feed.close()
        if not team.leads:
            return
    kept = {fact: facts[fact] for fact in ("engine_version", "name", "fold", "settings")}
    weight_files.write(model.weights(), weights, **kept)
    told_of = {"discriminator_sees_voxels": seen, "warnings": watch.told(told)}
    write_json(settings_out, {"schema_version": 1, **facts, **told_of})
    loop.write_history(told, model.losses, history)
    pictures.hand_over(folder / "samples", samples, settings.iterations)
    ledgers.write(
        ledger,
        name=name,
        stage="synthesis",
        split=settings.split,
        seen={"training": used} | ({"elsewhere": elsewhere} if settings.start_from else {}),
        upstream=upstream,
        unknown=adopt.unknown(settings.start_from, elsewhere) if settings.start_from else "",
        weights=sha256_file(weights),
        settings=settings_json,
        code=code,
    )


def _domains(
    settings: Synthesis,
    scans: Path,
    patients: Path,
    split: Path,
    manifests: list[Path],
    upstream: list[Path],
    where: str,
    log: Log,
) -> tuple[dict[str, list[list[Row]]], list[str], tuple[str, ...]]:
    """Manifest rows of the inputs of each scan to train on, by domain; their patients; those behind start weights."""
    from ..training import cohort

    everyone = cohort.cohort(scans, patients)
    allowed = cohort.training_patients(split, upstream, where)
    given = settings.start_from
    elsewhere = start.patients_behind(given, split, allowed, where) if given is not None else ()
    domains, wanting = {}, {}
    for domain in ("source", "target"):
        chosen, at = getattr(settings, domain), f"{where}: {domain}"
        selected = cohort.select(everyone, chosen.where, at)
        selected = selected[selected["patient"].isin(allowed)]
        found = cohort.images(selected, manifests, chosen.view, at).to_dict("records")
        also = images.candidates(settings, everyone, manifests, at) if domain == "source" else []
        domains[domain], wanting[domain] = images.complete(found, also, at)
    images.same_spacing(domains, settings, where)
    used = sorted({row["patient"] for found in domains.values() for rows in found for row in rows})
    counts = {domain: len(found) for domain, found in domains.items()}
    log.event("data", **counts, incomplete=len(wanting["source"]), patients=len(used))
    return domains, used, elsewhere


def _model(
    settings: Synthesis,
    domains: dict[str, list[list[Row]]],
    root: Path,
    called: tuple[str, str],
    seed: int,
    place: torch.device,
    team: teams.Team,
    where: str,
    log: Log,
) -> CycleGan:
    """The untrained model, on the device, with what it draws patches from."""
    names = ("synthesis", *called)
    size = patches.full_size(settings.patch)
    ranges = {"source": settings.source_ranges, "target": (settings.target_range,)}
    volumes = {
        domain: images.opened(found, root, size, ranges[domain], f"{where}: {domain}")
        for domain, found in domains.items()
    }
    resident = team.same(store.resident(settings.engine.store, list(volumes.values()), place, where, log))
    samplers = {}
    for domain, found in domains.items():
        spacings = [[float(first[f"spacing_{a}_mm"]) for a in "xyz"] for first, *_ in found]
        augmenter = Augmenter(settings.augment, stream(seed, *names, "augment", domain))
        samplers[domain] = images.Images(
            volumes[domain], spacings, size, ranges[domain], stream(seed, *names, "patches", domain), augmenter,
            device=place, resident=resident,
        )  # fmt: skip
    torch.manual_seed(integer_seed(seed, *names, "torch"))  # for layers that draw by themselves
    model = CycleGan(settings, samplers["source"], samplers["target"], seed=seed, names=names, device=place, team=team)
    if settings.start_from is not None:
        model.start(start.weights(settings, settings.start_from, where))
    return model


def _engine(
    settings: Synthesis, model: CycleGan, memory: Path, team: teams.Team, where: str, log: Log
) -> dict[str, Any]:
    """Set the model's arithmetic; return what of it decides the weights."""
    wanted, place = settings.engine, model.device
    examples = model.examples()
    decided = None
    if team.leads:
        decided = engines.decide(wanted, place, lambda: examples[::2], memory, where=where, log=log)
    precision, compiled = team.same((decided.precision, decided.compiled) if decided else None)
    model.arithmetic = devices.Arithmetic(place, precision, compiled)
    engines.compile_networks(examples, model.arithmetic, log=log)
    return {
        "precision": precision,
        "compiled": compiled,
        "deterministic": wanted.deterministic or place.type == "cpu",
        "devices": wanted.devices,
    }


def _sampler(settings: Synthesis, model: CycleGan, folder: Path) -> Callable[[int], None]:
    """Draws a sheet of the first scans of each domain, always the same places of them."""
    factor = 2**settings.generator.downs
    regions = {
        domain: [sampler.middle(scan, factor) for scan in range(min(SAMPLED, len(sampler.store.shapes)))]
        for domain, sampler in model.samplers.items()
    }
    source, target = windows(settings)
    common = settings.source_ranges[0] == settings.target_range
    shown = [(source, target, common)] * len(regions["source"]) + [(target, source, common)] * len(regions["target"])

    def draw(iteration: int) -> None:
        rows = [pictures.Line(made, *how) for made, how in zip(model.pictures(regions), shown, strict=True)]
        pictures.write_png(pictures.sheet(rows), folder / pictures.name(iteration))

    return draw


def windows(settings: Synthesis) -> tuple[pictures.Window, pictures.Window]:
    """What is drawn from black to white in sample pictures of the source and of the target, each in its own [-1, 1]."""
    own, other = settings.source_ranges[0], settings.target_range
    target = settings.engine.samples_window or other
    source = settings.engine.samples_window_source or (target if own == other else own)
    return _inside(source, own), _inside(target, other)


def _inside(window: pictures.Window, limits: pictures.Window) -> pictures.Window:
    low, high = limits
    black, white = (2 * (value - low) / (high - low) - 1 for value in window)
    return black, white
