"""Train a segmentation model: select, check, train, write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import ledger as ledgers
from ..errors import UserError
from ..files import hash_of, sha256_file, write_json
from ..jobs import SILENT, Log
from ..networks import devices
from ..networks import weights as weight_files
from ..randomness import generator as stream
from ..training import adopt, loop, patches
from . import ENGINE_VERSION
from .model import Region, Segmenter

if TYPE_CHECKING:
    from ..config.segmentation import Segmentation

BESIDE_TRAINING = {"inference", "checkpoint_minutes", "checkpoint_iterations", "device"}
AUTO_LIMIT_S = 2 * 3600.0


def train(
    name: str,
    settings: Segmentation,
    *,
    seed: int,
    scans: Path,
    patients: Path,
    split: Path,
    manifests: list[Path],
    masks: list[Path],
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

    `manifests` are those of the view, `masks` those of the mask source. As in synthesis, training state is kept below
    `work` in a folder named by the hash of all that decides the weights.

    Raises
    ------
    UserError
        for images or masks that cannot be trained on, a leak, divergence, or too long a training.
    """
    from ..training import cohort

    where = f"segmentation: {name}"
    if settings.import_ is not None:
        files = adopt.Outputs(weights, settings_out, history, ledger)
        adopt.adopt(
            name, settings.import_, files, stage="segmentation", split=settings.split, patients=split,
            settings_json=settings_json, code=code, where=where, log=log,
        )  # fmt: skip
        return
    allowed = cohort.training_patients(split, upstream, where)
    selected = cohort.select(cohort.cohort(scans, patients), settings.where, where)
    selected = selected[selected["patient"].isin(allowed)]
    rows = cohort.images(selected, manifests, settings.view, where).to_dict("records")
    outlined = _masks(masks, settings)
    unlined = [row["scan"] for row in rows if row["scan"] not in outlined]
    rows = [row for row in rows if row["scan"] in outlined]
    if not rows:
        raise UserError(
            f"{where}: none of the {len(unlined)} selected scans of training patients has a mask {settings.roi!r} of "
            f"{settings.masks!r}. Write a `roi` and `masks` that there are."
        )
    used = sorted({row["patient"] for row in rows})
    place = devices.prepare(settings.device or device, settings.threads)
    facts = {
        "engine_version": ENGINE_VERSION,
        "name": name,
        "fold": fold,
        "seed": seed,
        "device": place.type,
        "settings": settings.model_dump(mode="json", exclude=BESIDE_TRAINING),
        "scans": sorted([row["scan"], row["sha256"], outlined[row["scan"]]["sha256"]] for row in rows),
    }
    key = hash_of(facts)
    log.event("data", scans=len(rows), patients=len(used), without_mask=len(unlined), key=key[:16])
    names = ("segmentation", name, fold)
    size = patches.full_size(settings.patch)
    volumes = patches.checked(rows, root, size, settings.hu_range, where)
    regions = [_region(row, outlined[row["scan"]], root, where) for row in rows]
    centres = [region.centres(volume.shape) for region, volume in zip(regions, volumes, strict=True)]
    sampler = patches.PatchSampler(
        volumes, size, stream(seed, *names, "patches"), centres=centres, focus=settings.foreground
    )
    model = Segmenter(settings, sampler, regions, seed=seed, names=names, device=place)
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
        stage="segmentation",
        split=settings.split,
        seen={"training": used},
        upstream=upstream,
        weights=sha256_file(weights),
        settings=settings_json,
        code=code,
    )


def _masks(manifests: list[Path], settings: Segmentation) -> dict[str, dict[str, Any]]:
    """Manifest rows of the region's masks by scan."""
    from .. import tables
    from ..tables import schemas

    frame = tables.read_all(manifests, schemas.MASKS)
    frame = frame[(frame["source"] == settings.masks) & (frame["roi"] == settings.roi) & (frame["status"] == "ok")]
    return {row["scan"]: row for row in frame[frame["voxels"] > 0].to_dict("records")}


def _region(row: dict[str, Any], mask: dict[str, Any], root: Path, where: str) -> Region:
    """The mask of a scan on the grid of its image: linear interpolation, a half or more belongs."""
    from .. import volumes

    own = volumes.read(root / mask["path"])
    own = own.with_array((own.array > 0).astype("float32"))
    moved = volumes.resample(own, volumes.Geometry.from_columns(row), interpolation="linear").array >= 0.5
    if not moved.any():
        raise UserError(
            f"{where}: the mask of scan {row['scan']} has no voxel on the grid of view {row['view']!r}; write a finer "
            f"spacing_mm for the view, or leave the scan out by `where`."
        )
    return Region.of(moved)
