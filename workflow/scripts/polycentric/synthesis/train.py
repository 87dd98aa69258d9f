"""Train a synthesis model: select, check, train, write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import ledger as ledgers
from ..files import hash_of, write_json
from ..jobs import SILENT, Log
from ..networks import devices
from ..networks import weights as weight_files
from ..randomness import generator as stream
from ..training import adopt, loop, patches
from . import ENGINE_VERSION, start
from . import domains as images
from .augment import Augmenter
from .cyclegan import CycleGan

if TYPE_CHECKING:
    from ..config.synthesis import Synthesis

# settings that do not change the weights: those of inference, and how training is saved and watched
BESIDE_TRAINING = {"inference", "checkpoint_minutes", "checkpoint_iterations", "device"}
AUTO_LIMIT_S = 2 * 3600.0


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
    device: str,
    upstream: list[Path],
    settings_json: str,
    code: str,
    log: Log = SILENT,
) -> None:
    """Train model `name` on the training patients of a split and write its weights, settings, history and ledger.

    `manifests` are those of the source's and the target's view; training state is kept below `work`, in a folder named
    by the hash of all that decides the weights.

    Raises
    ------
    UserError
        for a domain without scans, images that cannot be trained on, a leak, divergence, or too long a training.
    """
    from ..training import cohort

    where = f"synthesis: {name}"
    if settings.import_ is not None:
        files = adopt.Outputs(weights, settings_out, history, ledger)
        adopt.adopt(
            name, settings.import_, files, stage="synthesis", split=settings.split, settings_json=settings_json,
            code=code, where=where, log=log,
        )  # fmt: skip
        return
    everyone = cohort.cohort(scans, patients)
    allowed = cohort.training_patients(split, upstream, where)
    domains, wanting = {}, {}
    for domain in ("source", "target"):
        chosen, at = getattr(settings, domain), f"{where}: {domain}"
        selected = cohort.select(everyone, chosen.where, at)
        selected = selected[selected["patient"].isin(allowed)]
        found = cohort.images(selected, manifests, chosen.view, at).to_dict("records")
        also = images.candidates(settings, everyone, manifests, at) if domain == "source" else []
        domains[domain], wanting[domain] = images.complete(found, also, at)
    used = sorted({row["patient"] for scans in domains.values() for rows in scans for row in rows})
    images.same_spacing(domains, settings, where)
    place = devices.prepare(settings.device or device, settings.threads)
    training = settings.model_dump(mode="json", exclude=BESIDE_TRAINING)
    facts = {
        "engine_version": ENGINE_VERSION,
        "name": name,
        "fold": fold,
        "seed": seed,
        "device": place.type,
        "settings": training,
        "scans": {
            domain: sorted([fact for row in rows for fact in (row["scan"], row["sha256"])] for rows in scans)
            for domain, scans in domains.items()
        },
    }
    key = hash_of(facts)
    counts = {domain: len(scans) for domain, scans in domains.items()}
    log.event("data", **counts, incomplete=len(wanting["source"]), patients=len(used), key=key[:16])
    names = ("synthesis", name, fold)
    size = patches.full_size(settings.patch)
    samplers = {}
    for domain, scans in domains.items():
        ranges = settings.source_ranges if domain == "source" else (settings.target_range,)
        volumes = images.opened(scans, root, size, ranges, f"{where}: {domain}")
        spacings = [[float(first[f"spacing_{a}_mm"]) for a in "xyz"] for first, *_ in scans]
        augmenter = Augmenter(settings.augment, stream(seed, *names, "augment", domain))
        samplers[domain] = images.Images(
            volumes, spacings, size, ranges, stream(seed, *names, "patches", domain), augmenter
        )
    model = CycleGan(settings, samplers["source"], samplers["target"], seed=seed, names=names, device=place)
    if settings.start_from is not None:
        model.start(start.weights(settings, settings.start_from, where))
    auto_on_cpu = (settings.device or device) == "auto" and place.type == "cpu"
    plan = loop.Plan(
        settings.iterations,
        settings.history_every,
        settings.checkpoint_minutes,
        settings.checkpoint_iterations,
        AUTO_LIMIT_S if auto_on_cpu else None,
    )
    told = loop.run(model, plan, name=where, folder=work / key[:32], key=key, log=log)
    kept = {fact: facts[fact] for fact in ("engine_version", "name", "fold", "settings")}
    weight_files.write(model.weights(), weights, **kept)
    write_json(settings_out, {"schema_version": 1, **facts})
    loop.write_history(told, model.losses, history)
    ledgers.write(
        ledger,
        name=name,
        stage="synthesis",
        split=settings.split,
        seen={"training": used} | ({"elsewhere": settings.start_from.seen} if settings.start_from else {}),
        upstream=upstream,
        settings=settings_json,
        code=code,
    )
