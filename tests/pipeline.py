"""A folder of one centre through index, curation, cohort and conversion, for tests of what comes after or between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from polycentric import tables
from polycentric.cohort import CentreFacts, assemble
from polycentric.config.codes import Verdict
from polycentric.config.curation import ConvertSettings, CurationSettings, Limits
from polycentric.config.images import ImageTable
from polycentric.convert import convert_shard
from polycentric.curation import curate
from polycentric.index import build
from polycentric.index.headers import read_header
from polycentric.index.images import image_reader
from polycentric.jobs import SILENT, Log
from polycentric.tables.schemas import MASKS, VOLUMES

SALT = b"s" * 32


@dataclass(frozen=True)
class Centre:
    """Where everything of centre `north` lies: one shard, `north-0`."""

    folder: Path
    out: Path

    @property
    def private(self) -> Path:
        return self.out / "private"

    @property
    def root(self) -> Path:
        return self.out / "results"

    @property
    def shard(self) -> Path:
        return self.root / "shards" / "north-0.tsv"

    @property
    def files(self) -> Path:
        return self.private / "north-0.parquet"

    def volumes(self) -> pd.DataFrame:
        return tables.read(self.root / "volumes" / "north-0.tsv", VOLUMES)

    def masks(self, source: str = "manual") -> pd.DataFrame:
        return tables.read(self.root / "masks" / source / "main" / "north-0.tsv", MASKS)


def curated(
    folder: Path, curation: CurationSettings | None = None, *, table: ImageTable | None = None, log: Log = SILENT
) -> Centre:
    """Index, curation and cohort of a folder, results beside it; `table` lists images that are no DICOM."""
    centre = Centre(folder, folder.parent / f"{folder.name}-out")
    private, root = centre.private, centre.root
    read = image_reader("north", folder, Path(table.file), table, read_header) if table else read_header
    build("north", folder, output=private / "index.parquet", read=read, log=log)
    curate(
        "north", private / "index.parquet", settings=curation or CurationSettings(), salt=SALT,
        curation=root / "c.parquet", files=private / "f.parquet", log=log,
    )  # fmt: skip
    assemble(
        [root / "c.parquet"], [private / "f.parquet"], centres={"north": CentreFacts("development", 1)}, clinical=None,
        clinical_settings=None, salt=SALT, accepted_out=root / "accepted.tsv", patients=root / "patients.tsv",
        flow=root / "flow.tsv", curation_out=root / "curation.parquet", shards={"north-0": centre.shard},
        private_shards={"north-0": centre.files}, pseudonyms=private / "pseudonyms.tsv", log=log,
        limits=Limits(accepted_scans=0),
    )  # fmt: skip
    return centre


def converted(
    centre: Centre,
    settings: ConvertSettings | None = None,
    *,
    verdicts: Mapping[str, Verdict] | None = None,
    log: Log = SILENT,
) -> Centre:
    """Volumes and masks of a curated folder."""
    settings = settings or ConvertSettings()
    convert_shard(
        centre.shard, centre.files, centre.folder, settings=settings, root=centre.root,
        volumes=centre.root / "volumes" / "north-0.tsv",
        masks={s: centre.root / "masks" / s / "main" / "north-0.tsv" for s in settings.sources},
        settings_json=settings.model_dump_json(), code="code", log=log, verdicts=verdicts,
    )  # fmt: skip
    return centre
