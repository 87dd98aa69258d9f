"""Images of views that do not stay (`keep: false`): held while they are read, removed after, made again when needed.

The manifest of such a view stays, with the hashes of its images, so that nothing downstream runs again when they go.
Every job that reads them has a lease of its own beside the manifest, a copy of it that lives until the job has ended.
Where the images are gone, whoever makes the lease makes them again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from . import tables
from .errors import UserError
from .files import atomic, write_json
from .jobs import SILENT, Log
from .tables.schemas import VIEWS


def make(work: Callable[..., object], record: str | None, manifest: Path, root: Path) -> None:
    """Make a shard of a view by `work(root=..., manifest=...)`; or, where `record` is the manifest of one whose images
    do not stay, a lease of it."""
    if record is not None and hold(Path(record), manifest, root):
        return
    work(root=root, manifest=manifest)
    if record is not None:
        confirm(Path(record), manifest)


def hold(manifest: Path, lease: Path, root: Path) -> bool:
    """Whether all images of a manifest are there; if so, the lease is made."""
    rows = tables.read(manifest, VIEWS)
    if not all((root / path).is_file() for path in rows["path"] if path):
        return False
    _copy(manifest, lease)
    return True


def confirm(manifest: Path, lease: Path) -> None:
    """Refuse images that were made again and are not what the manifest says.

    Raises
    ------
    UserError
        if the lease, which lists what was made, differs from the manifest.
    """
    if manifest.read_bytes() != lease.read_bytes():
        raise UserError(
            f"{manifest}: the images of this view do not stay (keep: false), and were made again with other bytes than "
            "at first, as another kind of processor or GPU makes them. Delete this file and start snakemake: what "
            "depends on the view then runs again. Or write `keep: true` for the view."
        )


def remove(manifest: Path, record: Path, root: Path, *, log: Log = SILENT) -> None:
    """Remove the images that a manifest lists, and leases that a killed run left; write how many went.

    The manifest and the sidecars of the images stay.
    """
    for lease in sorted(manifest.parent.glob(f"{manifest.stem}.for.*.tsv")):  # first: none may outlive the images
        lease.unlink()
    paths = [path for path in tables.read(manifest, VIEWS)["path"] if path]
    for path in paths:
        (root / path).unlink(missing_ok=True)
    log.event("removed", images=len(paths))
    write_json(record, {"schema_version": 1, "images": len(paths)})


def _copy(source: Path, target: Path) -> None:
    with atomic(target) as temporary:
        temporary.write_bytes(source.read_bytes())
