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
from . import ENGINE_VERSION
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
    rows = {}
    for domain in ("source", "target"):
        chosen = getattr(settings, domain)
        selected = cohort.select(everyone, chosen.where, f"{where}: {domain}")
        selected = selected[selected["patient"].isin(allowed)]
        rows[domain] = cohort.images(selected, manifests, chosen.view, f"{where}: {domain}").to_dict("records")
    used = sorted({row["patient"] for domain in rows.values() for row in domain})
    place = devices.prepare(settings.device or device, settings.threads)
    training = settings.model_dump(mode="json", exclude=BESIDE_TRAINING)
    facts = {
        "engine_version": ENGINE_VERSION,
        "name": name,
        "fold": fold,
        "seed": seed,
        "device": place.type,
        "settings": training,
        "scans": {d: sorted([row["scan"], row["sha256"]] for row in found) for d, found in rows.items()},
    }
    key = hash_of(facts)
    log.event("data", **{domain: len(found) for domain, found in rows.items()}, patients=len(used), key=key[:16])
    names = ("synthesis", name, fold)
    size = patches.full_size(settings.patch)
    samplers = {}
    for domain, found in rows.items():
        volumes = patches.checked(found, root, size, settings.hu_range, f"{where}: {domain}")
        samplers[domain] = patches.PatchSampler(volumes, size, stream(seed, *names, "patches", domain))
    model = CycleGan(settings, samplers["source"], samplers["target"], seed=seed, names=names, device=place)
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
        seen={"training": used},
        upstream=upstream,
        settings=settings_json,
        code=code,
    )
