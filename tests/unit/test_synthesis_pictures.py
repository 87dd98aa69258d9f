"""A collection of pictures through index, curation, conversion, a view of one size, training and translation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pipeline
import pytest
import torch
from PIL import Image
from polycentric import ledger, tables, volumes
from polycentric.config.curation import CurationSettings
from polycentric.config.images import ImageTable
from polycentric.config.synthesis import Synthesis
from polycentric.config.views import View
from polycentric.networks import weights
from polycentric.prepare.shard import prepare_shard
from polycentric.synthesis import cyclegan
from polycentric.synthesis.apply import synthesize_shard
from polycentric.synthesis.train import train
from polycentric.tables import schemas

torch.set_num_threads(1)
SETTINGS = {
    "split": "main",
    "dimensions": 2,
    "patch": [16, 16],
    "batch": 2,
    "mixed_spacing": True,
    "hu_range": [0, 255],
    "source": {"view": "small", "where": "kernel == 'bright'"},
    "target": {"view": "small", "where": "kernel == 'dark'"},
    "generator": {"width": 2, "downs": 1, "residual_blocks": 1},
    "discriminator": {"width": 2, "layers": 1},
    "losses": {"adversarial": "bce", "identity": 0},
    "augment": {"flip": ["x"], "rotate_degrees": [-15, 15], "crop": [0.8, 1]},
    "iterations": 2,
    "threads": 1,
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[pipeline.Centre, Path]:
    """Eight pictures of eight sizes, bright and dark in turn, as scans of one slice; results, the view's manifest."""
    folder, rng = tmp_path_factory.mktemp("pictures") / "in", np.random.default_rng(0)
    folder.mkdir()
    rows = ["path,patient_id,style"]
    for n in range(8):
        values = rng.normal(70 if n % 2 else 180, 20, (20 + n, 30 - n)).clip(0, 255).astype(np.uint8)
        Image.fromarray(values).save(folder / f"{n}.png")
        rows.append(f"{n}.png,P{n},{'dark' if n % 2 else 'bright'}")
    table = folder.parent / "table.csv"
    table.write_text("\n".join(rows) + "\n")
    listed = ImageTable(file=str(table), modality={"value": "OT"}, facts={"kernel": {"column": "style"}}, planar=True)
    centre = pipeline.converted(pipeline.curated(folder, CurationSettings(preset="planar"), table=listed))
    view = centre.root / "views" / "small" / "main" / "north-0.tsv"
    prepare_shard(
        "small", View(**{"from": "scan", "steps": [{"kind": "resize", "size": [16, 16, 0]}]}),
        source=centre.root / "volumes" / "north-0.tsv", root=centre.root, manifest=view,
    )  # fmt: skip
    return centre, view


def test_pictures_are_translated_as_whole_slices(pictures: tuple[pipeline.Centre, Path], tmp_path: Path) -> None:
    centre, view = pictures
    made = tables.read(view, schemas.VIEWS)
    assert (made["status"] == "ok").sum() == 8
    kernel = tables.read(centre.root / "accepted.tsv", schemas.ACCEPTED).set_index("scan")["kernel"]
    own = [row | {"role": "development", "shard": "north-0", "modality": "OT", "verdict": "accept", "contrast": "no",
                  "kernel": kernel[row["scan"]]}
           for row in made[list(schemas.SCAN)].to_dict("records")]  # fmt: skip
    people = sorted({row["patient"] for row in own})
    held_out = set(people[:2])
    scans, patients, split = (tmp_path / f"{name}.tsv" for name in ("scans", "patients", "split"))
    tables.write(own, scans, schemas.SCANS)
    facts = [{"centre": "north", "patient": patient} for patient in people]
    tables.write(
        [f | {"role": "development", "scans": 1, "clinical": False} for f in facts], patients, schemas.PATIENTS
    )
    parts = [f | {"part": "test" if f["patient"] in held_out else "training"} for f in facts]
    tables.write(parts, split, schemas.SPLIT)
    settings = Synthesis(**SETTINGS)
    train(
        "style", settings, seed=1, scans=scans, patients=patients, split=split, manifests=[view], root=centre.root,
        work=tmp_path / "work", fold="main", weights=tmp_path / "weights.safetensors",
        settings_out=tmp_path / "settings.json", history=tmp_path / "history.csv", ledger=tmp_path / "ledger.json",
        samples=tmp_path / "samples.zip", device="cpu", upstream=[], settings_json="{}", code="0",
    )  # fmt: skip
    seen = set(ledger.read(tmp_path / "ledger.json")["seen"]["training"])
    assert seen == set(people) - held_out
    manifest = centre.root / "views" / "style" / "main" / "north-0.tsv"
    synthesize_shard(
        "style", settings, weights=tmp_path / "weights.safetensors", ledger=tmp_path / "ledger.json", source=view,
        root=centre.root, manifest=manifest, fold="main", settings_json="{}", code="0", device="cpu",
    )  # fmt: skip
    network = cyclegan.generator(settings).eval()
    weights.into(network, weights.read(tmp_path / "weights.safetensors")[0], "forward")
    before = made.set_index("scan")
    for row in tables.read(manifest, schemas.VIEWS).to_dict("records"):
        picture = volumes.read(centre.root / before.loc[row["scan"], "path"]).array
        assert picture.shape == (1, 16, 16)
        with torch.no_grad():
            whole = network(torch.from_numpy(picture[None].astype(np.float32) / 127.5 - 1))[0].numpy()
        synthetic = volumes.read(centre.root / row["path"], row).array
        assert synthetic.dtype == np.float32  # 0 to 255 is not rounded
        np.testing.assert_allclose(synthetic, whole * 127.5 + 127.5, atol=0.05)
