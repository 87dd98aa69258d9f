"""Several inputs, losses, augmentation, start weights: what a synthesis model can be."""

import json
import math
from pathlib import Path

import numpy as np
import pydantic
import pytest
import torch
from phantoms import Phantom
from polycentric import ledger, tables, volumes
from polycentric.config.synthesis import Augmentation, FurtherInput, Synthesis
from polycentric.errors import UserError
from polycentric.files import sha256_file, write_json
from polycentric.networks import weights
from polycentric.randomness import generator as stream
from polycentric.synthesis import apply, cyclegan, domains
from polycentric.synthesis.augment import Augmenter, Change
from polycentric.synthesis.start import differences
from polycentric.synthesis.train import train
from polycentric.tables import schemas

torch.set_num_threads(1)

ALSO = [{"view": "second"}, {"view": "third"}]
TINY = {
    "split": "main",
    "source": {"view": "ct", "where": "contrast == 'yes'", "also": ALSO[:1]},
    "target": {"view": "ct", "where": "contrast == 'no'"},
    "iterations": 6,
    "patch": [8, 8, 8],
    "generator": {"width": 2, "downs": 1, "residual_blocks": 2, "branch_blocks": 1, "kernel": 3},
    "discriminator": {"width": 2, "layers": 1},
    "losses": {"identity": 0},
    "pool": 3,
    "history_every": 4,
    "threads": 1,
    "inference": {"stride": [8, 8, 8]},
}
PARTS = dict.fromkeys(["p0", "p1", "p2", "p3"], "training") | {"p4": "test", "p5": "test", "p6": "external"}


class Several(Phantom):
    """A phantom whose patients have a second scan in view `second`; p6 has none, p5's lies on another grid."""

    def _tables(self) -> None:
        super()._tables()
        scans, view = tables.read(self.scans, schemas.SCANS), tables.read(self.view, schemas.VIEWS)
        more_scans, more_rows = [], []
        for row in view.to_dict("records"):
            patient = row["patient"]
            if patient == "p6":
                continue
            scan = f"second-{patient}"
            path = self.root / "views" / "second" / "main" / "all" / f"{scan}.nii"
            size = (24, 24, 10) if patient == "p5" else self.geometry.size
            geometry = volumes.Geometry(size, self.spacing, self.geometry.origin)
            array = np.flip(self.images[patient], 2)[: size[2]].copy()
            volumes.write(volumes.Volume(array, geometry), path)
            file = {"path": path.relative_to(self.root).as_posix(), "sha256": sha256_file(path)}
            more_rows.append(row | {"scan": scan, "view": "second"} | file | geometry.columns())
            own = scans[scans["patient"] == patient].to_dict("records")[0]
            more_scans.append(own | {"scan": scan, "modality": "MR"})
        self.second = self.root / "views" / "second" / "main" / "all.tsv"
        tables.write(more_rows, self.second, schemas.VIEWS)
        tables.write([*scans.to_dict("records"), *more_scans], self.scans, schemas.SCANS)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Several:
    return Several(tmp_path_factory.mktemp("several"), PARTS)


SOURCE = {"view": "ct", "where": "contrast == 'yes' and modality == 'CT'", "also": ALSO[:1]}


def call(cohort: Several, out: Path, *, manifests: list[Path] | None = None, **changes) -> None:
    train(
        "several",
        Synthesis(**(TINY | {"source": SOURCE} | changes)),
        seed=1,
        scans=cohort.scans,
        patients=cohort.patient_table,
        split=cohort.split,
        manifests=manifests or [cohort.view, cohort.second],
        root=cohort.root,
        work=out / "work",
        fold="main",
        weights=out / "weights.safetensors",
        settings_out=out / "settings.json",
        history=out / "history.csv",
        ledger=out / "ledger.json",
        samples=out / "samples.zip",
        device="cpu",
        upstream=[],
        settings_json="{}",
        code="0",
    )


OUTPUTS = ("weights.safetensors", "settings.json", "history.csv", "ledger.json")


def outputs(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in OUTPUTS}


@pytest.fixture(scope="module")
def trained(cohort: Several, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    call(cohort, folder)
    return folder


# one iteration


def model(inputs: int = 2, **changes) -> cyclegan.CycleGan:
    source = TINY["source"] | {"also": ALSO[: inputs - 1]}
    settings = Synthesis(**(TINY | {"pool": 0, "batch": 2, "source": source} | changes))
    rng = np.random.default_rng(5)
    samplers = []
    for domain, ranges in (("a", settings.source_ranges), ("b", (settings.target_range,))):
        scan = tuple(rng.normal(0, 400, (9, 10, 12)) for _ in ranges)
        augmenter = Augmenter(settings.augment, stream(2, domain))
        samplers.append(domains.Images([scan], [(1.0, 1.0, 2.0)], (8, 8, 8), ranges, stream(1, domain), augmenter))
    return cyclegan.CycleGan(settings, *samplers, seed=3, names=("t",), device=torch.device("cpu"))


def similarity(a: torch.Tensor, b: torch.Tensor, size: int) -> torch.Tensor:
    """Structural similarity with a uniform window by average pooling."""
    mean = torch.nn.AvgPool3d(size, 1)
    x, y = mean(a), mean(b)
    xx, yy, xy = mean(a * a) - x * x, mean(b * b) - y * y, mean(a * b) - x * y
    c1, c2 = 0.02**2, 0.06**2
    return ((2 * x * y + c1) * (2 * xy + c2) / ((x * x + y * y + c1) * (xx + yy + c2))).mean()


LOSSES = {
    "least squares": {},
    "cross-entropy, similarity": {
        "adversarial": "bce",
        "cycle": {"forward": 3, "backward": 7, "measure": "mean", "similarity": {"window": "uniform", "size": 5}},
    },
    "minimax, sigmoid": {"adversarial": "minimax", "discriminator": "least-squares", "adversarial_weight": 2},
}


@pytest.mark.parametrize("norm", ["instance", "batch", "spectral"])
@pytest.mark.parametrize("inputs", [1, 2, 3])
@pytest.mark.parametrize("losses", LOSSES)
def test_an_iteration_equals_separate_passes(inputs: int, losses: str, norm: str) -> None:
    chosen = {"identity": 4 if inputs == 1 else 0} | LOSSES[losses]
    sigmoid = losses.startswith("minimax")
    parts = {"generator": TINY["generator"] | {"norm": "none" if norm == "spectral" else norm}}
    parts["discriminator"] = TINY["discriminator"] | {"norm": norm, "sigmoid": sigmoid}
    merged, plain = (model(inputs, losses=chosen, **parts) for _ in range(2))
    a, b = merged.draw("source"), merged.draw("target")
    assert a.shape == (2, inputs, 8, 8, 8)
    found = merged.update(a, b)

    n = plain.networks
    one, zero = torch.ones_like, torch.zeros_like
    mse, mae = torch.nn.functional.mse_loss, torch.nn.functional.l1_loss
    entropy = torch.nn.functional.binary_cross_entropy_with_logits

    def verdict(x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x) if sigmoid else x

    def wish(x: torch.Tensor) -> torch.Tensor:
        if losses.startswith("minimax"):
            return (1 - torch.sigmoid(x)).log().mean()
        return entropy(x, one(x)) if losses.startswith("cross") else mse(x, one(x))

    def judged(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        if losses.startswith("cross"):
            return (entropy(real, one(real)) + entropy(fake, zero(fake))) / 2
        real, fake = verdict(real), verdict(fake)
        return (mse(real, one(real)) + mse(fake, zero(fake))) / 2

    def cycled(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (mae(x, y) + 1 - similarity(x, y, 5)) / 2 if losses.startswith("cross") else mae(x, y)

    fake_b = n["forward"](a)
    same_b = n["forward"](b) if inputs == 1 else None
    fake_a = n["backward"](b)
    same_a = n["backward"](a) if inputs == 1 else None
    sources = ["source", "source_2", "source_3"][:inputs]
    terms = [wish(n["target"](fake_b)), *(wish(n[name](fake_a[:, [i]])) for i, name in enumerate(sources))]
    cycles = [cycled(n["backward"](fake_b), a), cycled(n["forward"](fake_a), b)]
    identity = [mae(same_b, b), mae(same_a, a)] if inputs == 1 else [torch.zeros(())] * 2
    w = plain.settings.losses
    total = w.adversarial_weight * sum(terms) + w.cycle.forward * cycles[0] + w.cycle.backward * cycles[1]
    total = total + w.identity * sum(identity)
    total.backward()
    gradients = [p.grad.clone() for name in cyclegan.GENERATORS for p in n[name].parameters()]
    pairs = [(n[name], a[:, [i]], fake_a[:, [i]]) for i, name in enumerate(sources)] + [(n["target"], b, fake_b)]
    judgements = [judged(judge(real), judge(fake.detach())) for judge, real, fake in pairs]
    expected = torch.stack([x.detach() for x in (*terms, *cycles, *identity, *judgements)])
    assert len(merged.losses) == len(expected)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    new = [p.grad for name in cyclegan.GENERATORS for p in merged.networks[name].parameters()]
    for g, h in zip(new, gradients, strict=True):
        torch.testing.assert_close(g, h, rtol=1e-3, atol=2e-5)


def test_a_step_changes_every_network() -> None:
    gan = model(3, augment={"flip": ["x"]})
    before = {k: v.clone() for k, v in gan.tensors().items() if k.startswith("network.")}
    gan.step()
    after = gan.tensors()
    names = {k.split(".")[1] for k, v in before.items() if not torch.equal(v, after[k])}
    assert names == {"forward", "backward", "source", "source_2", "source_3", "target"}


def test_losses_without_weight_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    gan = model(1, losses={"identity": 0, "cycle": {"forward": 10, "backward": 0}})
    passes = []
    for name in cyclegan.GENERATORS:
        gan.networks[name].register_forward_hook(lambda *_, name=name: passes.append(name))
    losses = dict(zip(gan.losses, gan.step().tolist(), strict=True))
    assert passes == ["forward", "backward", "backward"]
    assert losses["identity_forward"] == losses["identity_backward"] == losses["cycle_backward"] == 0


def test_the_rate_follows_the_schedule_and_the_iteration() -> None:
    gan = model(schedule={"kind": "linear", "start": 2}, learning_rate=0.01)
    rates = []
    for _ in range(6):
        gan.step()
        rates.append([group["lr"] for o in gan.optimizers.values() for group in o.param_groups])
    expected = [0.01, 0.01, 0.01, 0.0075, 0.005, 0.0025]
    assert [rate[0] for rate in rates] == pytest.approx(expected)
    assert all(len(set(rate)) == 1 for rate in rates)


def test_running_means_of_weights_are_those_of_the_formula() -> None:
    gan = model(average=0.3, learning_rate=0.01)
    name = "branches.0.1.weight"
    weight = gan.networks["forward"].get_parameter(name)
    mean = weight.detach().clone().double()
    for iteration in range(5):
        gan.step()
        share = min(0.3, (1 + iteration) / (10 + iteration))
        mean = share * mean + (1 - share) * weight.detach()
    assert torch.allclose(gan.weights()["forward." + name].double(), mean, rtol=0, atol=1e-6)
    assert not torch.allclose(weight.double(), mean, rtol=0, atol=1e-4)
    # the means are watched alone: the weights that are trained are the same without them
    plain = model(learning_rate=0.01)
    for _ in range(5):
        plain.step()
    assert torch.equal(plain.weights()["forward." + name], weight)


# whole trainings


def test_outputs_of_several_inputs(trained: Path) -> None:
    tensors, facts = weights.read(trained / "weights.safetensors")
    assert {n.split(".")[2] for n in tensors if n.startswith("forward.branches")} == {"0", "1"}
    outer = {d: max(int(n.split(".")[2]) for n in tensors if n.startswith(f"{d}.layers")) for d in cyclegan.GENERATORS}
    assert {d: len(tensors[f"{d}.layers.{n}.bias"]) for d, n in outer.items()} == {"forward": 1, "backward": 2}
    assert len(facts["settings"]["source"]["also"]) == 1
    header = (trained / "history.csv").read_text().splitlines()[0].split(",")
    expected = cyclegan.loss_names(2)
    assert header[: 1 + len(expected)] == ["iteration", *expected]
    assert expected[:3] == ("adversarial_forward", "adversarial_backward", "adversarial_backward_2")
    assert expected[-3:] == ("discriminator_source", "discriminator_source_2", "discriminator_target")
    told = json.loads((trained / "settings.json").read_text())
    assert [[one, two] for one, _, two, _ in told["scans"]["source"]] == [
        ["scan-p0", "second-p0"],
        ["scan-p2", "second-p2"],
    ]
    assert [scan for scan, _ in told["scans"]["target"]] == ["scan-p1", "scan-p3"]
    assert ledger.read(trained / "ledger.json")["seen"] == {"training": ["p0", "p1", "p2", "p3"]}


RICH = {
    "schedule": {"kind": "cosine", "start": 1},
    "augment": {"flip": ["x", "y"], "rotate_degrees": [-20, 20], "scale": [0.8, 1.2], "crop": [0.7, 1], "share": 0.7},
    "generator": TINY["generator"] | {"norm": "batch", "padding": "reflect", "upsampling": "resize"},
    "discriminator": TINY["discriminator"] | {"norm": "spectral"},
    "losses": {"identity": 0, "adversarial": "bce", "cycle": {"measure": "mean", "similarity": {"size": 5}}},
    "batch": 2,
    "average": 0.9,
}


@pytest.mark.parametrize("broken_after", [3, 5])
def test_a_broken_run_resumes_to_the_same_bytes(
    cohort: Several, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_after: int
) -> None:
    call(cohort, tmp_path / "whole", **RICH)
    step, done = cyclegan.CycleGan.step, []

    def breaks(self: cyclegan.CycleGan) -> torch.Tensor:
        if len(done) == broken_after:
            raise KeyboardInterrupt
        done.append(1)
        return step(self)

    monkeypatch.setattr(cyclegan.CycleGan, "step", breaks)
    with pytest.raises(KeyboardInterrupt):
        call(cohort, tmp_path / "broken", checkpoint_iterations=2, **RICH)
    monkeypatch.undo()
    call(cohort, tmp_path / "broken", checkpoint_iterations=2, **RICH)
    assert outputs(tmp_path / "broken") == outputs(tmp_path / "whole")
    # the streams matter: without the changes of patches the weights are others
    call(cohort, tmp_path / "plain", **(RICH | {"augment": {}}))
    assert outputs(tmp_path / "plain")["weights.safetensors"] != outputs(tmp_path / "whole")["weights.safetensors"]


def test_scans_without_a_further_input_are_left_out(cohort: Several, tmp_path: Path) -> None:
    rows = tables.read(cohort.second, schemas.VIEWS)
    few = cohort.root / "few.tsv"
    tables.write(rows[rows["patient"] != "p2"], few, schemas.VIEWS)
    call(cohort, tmp_path, manifests=[cohort.view, few], iterations=1)
    assert ledger.read(tmp_path / "ledger.json")["seen"] == {"training": ["p0", "p1", "p3"]}


def test_bad_inputs_are_told_before_training(cohort: Several, tmp_path: Path) -> None:
    everyone = SOURCE | {"where": "modality == 'CT'"}
    rows = tables.read(cohort.second, schemas.VIEWS)
    none = cohort.root / "none.tsv"
    tables.write(rows[:0], none, schemas.VIEWS)
    with pytest.raises(UserError, match=r"(?s)none of 2 scans has all 2 inputs.*no image of view 'second'"):
        call(cohort, tmp_path, manifests=[cohort.view, none])
    twice = cohort.root / "twice.tsv"
    doubled = rows.to_dict("records")
    doubled.append(next(row for row in doubled if row["patient"] == "p0") | {"scan": "scan-p1"})
    tables.write(doubled, twice, schemas.VIEWS)
    with pytest.raises(UserError, match=r"(?s)scan-p0: several scans of view 'second' could be input 2.*onto"):
        call(cohort, tmp_path, manifests=[cohort.view, twice])
    moved = rows.copy()
    moved.loc[rows["patient"] == "p0", "origin_z_mm"] += 1.0
    off = cohort.root / "off.tsv"
    tables.write(moved, off, schemas.VIEWS)
    with pytest.raises(UserError, match=r"(?s)scan-p0: input 2 of view 'second' lies on another grid \(origin .*onto"):
        call(cohort, tmp_path, manifests=[cohort.view, off], source=everyone)


GRID = volumes.Geometry((4, 4, 4), (1.0, 1.0, 1.0)).columns()


def row(scan: str, session: str = "s1", view: str = "second", **facts) -> dict:
    key = {"centre": "north", "patient": "p", "session": session, "scan": scan, "view": view}
    return key | {"status": "ok", "reason": ""} | GRID | facts


@pytest.mark.parametrize(
    ("rows", "within", "found", "problem"),
    [
        ([row("b")], "session", ["b"], ""),
        ([row("b", "s2")], "session", [], "no image of view 'second'"),
        ([row("b", "s2")], "patient", ["b"], ""),
        ([row("b"), row("c")], "session", [], "several scans of view 'second' could be input 2"),
        ([row("b"), row("c", status="rejected", reason="X: why")], "session", ["b"], ""),
        ([row("b", status="rejected", reason="GEOM_X: why")], "session", [], "input 2: GEOM_X: why"),
        ([row("a"), row("b")], "session", ["a"], ""),  # the same scan in another view comes first
        ([row("b", size_x=5)], "session", [], "another grid (5 x 4 x 4 voxels, not 4 x 4 x 4)"),
        ([row("b", spacing_y_mm=1.1)], "session", [], "another grid (spacing 1 x 1.1 x 1 mm, not 1 x 1 x 1)"),
        ([row("b", spacing_y_mm=1.001)], "session", ["b"], ""),  # 0.004 mm at the last voxel
        ([row("b", direction="-1 0 0 0 -1 0 0 0 1")], "session", [], "another grid (other directions)"),
    ],
)
def test_which_scan_is_a_further_input(rows: list[dict], within: str, found: list[str], problem: str) -> None:
    of = FurtherInput(view="second", within=within)
    others, told = domains.further(row("a", view="ct"), [domains.Candidates(of, tuple(rows))])
    assert [other["scan"] for other in others] == found
    assert problem in told
    assert bool(told) is not bool(found)


def test_mixed_spacing_is_told_with_the_spacings(cohort: Several, tmp_path: Path) -> None:
    rows = tables.read(cohort.view, schemas.VIEWS)
    rows.loc[rows["patient"] == "p3", "spacing_x_mm"] = 3.0
    mixed = cohort.root / "mixed.tsv"
    tables.write(rows, mixed, schemas.VIEWS)
    source = {k: v for k, v in SOURCE.items() if k != "also"}
    with pytest.raises(UserError, match=r"2 x 2 x 2 mm \(2 of source, 1 of target\); 3 x 2 x 2 mm \(1 of target\)"):
        call(cohort, tmp_path, manifests=[mixed], source=source)
    call(cohort, tmp_path, manifests=[mixed], source=source, mixed_spacing=True, iterations=1)
    rows["spacing_z_mm"] = [2.0, 5.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    rows["spacing_x_mm"] = 2.0
    tables.write(rows, mixed, schemas.VIEWS)
    flat = {"dimensions": 2, "patch": [8, 8], "inference": {}, "iterations": 1}
    call(cohort, tmp_path / "flat", manifests=[mixed], source=source, **flat)  # slices: in the plane alone


def test_a_view_of_several_inputs(cohort: Several, trained: Path) -> None:
    manifest = cohort.root / "views" / "made" / "main" / "all.tsv"
    apply.synthesize_shard(
        "made",
        Synthesis(**(TINY | {"source": SOURCE | {"where": "modality == 'CT'"}})),
        weights=trained / "weights.safetensors",
        ledger=trained / "ledger.json",
        source=cohort.view,
        root=cohort.root,
        manifest=manifest,
        fold="main",
        settings_json="{}",
        code="0",
        device="cpu",
        scans=cohort.scans,
        patients=cohort.patient_table,
        also=[cohort.second],
    )
    made = tables.read(manifest, schemas.VIEWS).set_index("patient")
    assert dict(made["status"]) == dict.fromkeys(PARTS, "ok") | {"p5": "missing", "p6": "missing"}
    assert "another grid (24 x 24 x 10 voxels, not 24 x 24 x 20)" in made.loc["p5", "reason"]
    assert "no image of view 'second'" in made.loc["p6", "reason"]
    # the second input counts
    settings = Synthesis(**(TINY | {"source": SOURCE}))
    translate = apply.Translator(settings, trained / "weights.safetensors", torch.device("cpu"), "x", None)
    hu = cohort.images["p4"]
    assert np.array_equal(
        translate(hu, np.flip(hu, 2).copy()), volumes.read(cohort.root / made.loc["p4", "path"]).array
    )
    assert not np.array_equal(translate(hu, hu), translate(hu, np.flip(hu, 2).copy()))


def test_scans_that_are_no_first_input_have_no_image(cohort: Several, trained: Path) -> None:
    manifest = cohort.root / "views" / "first" / "main" / "all.tsv"
    apply.synthesize_shard(
        "first", Synthesis(**(TINY | {"source": SOURCE})), weights=trained / "weights.safetensors",
        ledger=trained / "ledger.json", source=cohort.view, root=cohort.root, manifest=manifest, fold="main",
        settings_json="{}", code="0", device="cpu", scans=cohort.scans, patients=cohort.patient_table,
        also=[cohort.second],
    )  # fmt: skip
    made = tables.read(manifest, schemas.VIEWS).set_index("patient")
    assert list(made.index[made["status"] == "ok"]) == ["p0", "p2", "p4"]
    assert "not the first input" in made.loc["p1", "reason"]


# start weights


def test_training_starts_from_given_weights(cohort: Several, trained: Path, tmp_path: Path) -> None:
    given = tmp_path / "elsewhere" / "weights.safetensors"
    given.parent.mkdir()
    given.write_bytes((trained / "weights.safetensors").read_bytes())  # without its ledger
    start = {"path": str(given), "sha256": sha256_file(given), "seen": ["p9"]}
    # a rate so small that the weights stay what they were
    call(cohort, tmp_path, start_from=start, iterations=1, learning_rate=1e-9)
    before, after = weights.read(given)[0], weights.read(tmp_path / "weights.safetensors")[0]
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, atol=1e-6, rtol=0)
    assert ledger.read(tmp_path / "ledger.json")["seen"]["elsewhere"] == ["p9"]
    told = (tmp_path / "settings.json").read_text()
    assert start["sha256"] in told
    assert str(given) not in told
    stated = weights.facts(tmp_path / "weights.safetensors")["settings"]
    assert not differences(Synthesis(**(TINY | {"source": SOURCE})), stated, ranges=True)
    begun = TINY["generator"] | {"first": 0.5}  # what training begins with is no part of the architecture
    assert not differences(Synthesis(**(TINY | {"source": SOURCE, "generator": begun})), stated, ranges=True)
    with pytest.raises(UserError, match=r"start_from: sha256: the file has"):
        call(cohort, tmp_path, start_from=start | {"sha256": "0" * 64})
    with pytest.raises(UserError, match="start_from: path: there is no file"):
        call(cohort, tmp_path, start_from=start | {"path": "nowhere.safetensors"})
    wide = TINY["generator"] | {"width": 4}
    with pytest.raises(UserError, match=r"another architecture: width is 2 there and 4 here"):
        call(cohort, tmp_path, start_from=start, generator=wide)
    one = {"view": "ct", "where": "contrast == 'yes' and modality == 'CT'"}
    with pytest.raises(UserError, match=r"inputs is 2 there and 1 here"):
        call(cohort, tmp_path, start_from=start, source=one)


def test_patients_of_the_test_part_may_not_be_among_those_seen_elsewhere(
    cohort: Several, trained: Path, tmp_path: Path
) -> None:
    given = tmp_path / "elsewhere.safetensors"
    given.write_bytes((trained / "weights.safetensors").read_bytes())
    start = {"path": str(given), "sha256": sha256_file(given), "seen": ["p4"]}
    with pytest.raises(UserError, match=r"start_from: seen: 1 of the patients .*p4"):
        call(cohort, tmp_path, start_from=start)


def in_folder(trained: Path, folder: Path, seen: list[str], name: str = "several", stage: str = "synthesis") -> dict:
    """Weights with a ledger beside them, whose model stands on another that has seen p3, too; as settings."""
    behind = ledger.read(trained / "ledger.json") | {"name": "upstream", "seen": {"training": ["p3"]}}
    record = ledger.read(trained / "ledger.json") | {"name": name, "stage": stage, "upstream": [behind]}
    del record["weights"]  # as ledgers of before, which are known by the name of their model alone
    write_json(folder / "ledger.json", record | {"seen": {"training": seen}})
    given = folder / "weights.safetensors"
    given.write_bytes((trained / "weights.safetensors").read_bytes())
    return {"path": str(given), "sha256": sha256_file(given)}


@pytest.mark.parametrize("key", ["start_from", "import"])
def test_the_ledger_beside_given_weights_is_taken(cohort: Several, trained: Path, tmp_path: Path, key: str) -> None:
    given = in_folder(trained, tmp_path / "a", ["p0", "p1", "other-study-1"])
    call(cohort, tmp_path, **{key: given}, iterations=1)
    everyone = ["other-study-1", "p0", "p1", "p3"]
    assert ledger.read(tmp_path / "ledger.json")["seen"]["elsewhere"] == everyone
    # more by hand than the ledger knows: both
    call(cohort, tmp_path, **{key: given | {"seen": ["p0", "p1", "p2", "p3"]}}, iterations=1)
    assert ledger.read(tmp_path / "ledger.json")["seen"]["elsewhere"] == [*everyone[:3], "p2", "p3"]
    with pytest.raises(UserError, match=rf"{key}: seen: the ledger .* names 2 more patients of this study \(p1, p3\)"):
        call(cohort, tmp_path, **{key: given | {"seen": ["p0"]}}, iterations=1)
    for wrong in ({"name": "another"}, {"stage": "segmentation"}):
        with pytest.raises(UserError, match=r"lies the ledger of (synthesis|segmentation) model '(another|several)'"):
            call(cohort, tmp_path, **{key: in_folder(trained, tmp_path / "b", ["p0"], **wrong)}, iterations=1)


def test_held_out_patients_of_a_ledger_beside_start_weights_are_refused(
    cohort: Several, trained: Path, tmp_path: Path
) -> None:
    given = in_folder(trained, tmp_path / "a", ["p0", "p6"])
    with pytest.raises(UserError, match=r"start_from: seen: 1 of the patients .*p6"):
        call(cohort, tmp_path, start_from=given, iterations=1)


# augmentation


def patch(
    volume: np.ndarray, change: Change, origin: tuple, size: tuple, spacing: tuple = (1.0, 1.0, 1.0)
) -> np.ndarray:
    placed = change.placed(origin, size, spacing, volume.shape)
    part = volume[tuple(slice(f, f + e) for f, e in zip(placed.first, placed.extent, strict=True))]
    return placed.take(torch.from_numpy(part.astype(np.float32))[None])[0].numpy()


def test_a_change_of_nothing_is_the_patch_itself() -> None:
    volume = np.random.default_rng(0).normal(size=(6, 9, 10))
    origin, size = (1, 2, 3), (4, 5, 6)
    own = volume[1:5, 2:7, 3:9].astype(np.float32)
    assert np.array_equal(patch(volume, Change(), origin, size), own)
    assert np.array_equal(patch(volume, Change(flip=(0, 2)), origin, size), own[::-1, :, ::-1])
    # a full turn goes through the interpolation
    np.testing.assert_allclose(patch(volume, Change(angle=2 * math.pi), origin, size), own, atol=1e-5)


def test_a_quarter_turn_is_that_of_numpy() -> None:
    volume = np.random.default_rng(0).normal(size=(4, 9, 9)).astype(np.float32)
    found = patch(volume, Change(angle=math.pi / 2), (0, 2, 2), (4, 5, 5))
    own = volume[:, 2:7, 2:7]
    assert any(np.allclose(found, np.rot90(own, k, (1, 2)), atol=1e-5) for k in (1, 3))


def test_changes_of_a_ramp_are_known() -> None:
    z, y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in (12, 20, 30)), indexing="ij")
    origin, size = (2, 5, 6), (6, 8, 10)
    index = [np.arange(s) - (s - 1) / 2 for s in size]
    centre = [o + (s - 1) / 2 for o, s in zip(origin, size, strict=True)]
    # twice as large: half the way from the centre, along every axis
    for axis, ramp in enumerate((z, y, x)):
        found = patch(ramp, Change(scale=2.0), origin, size)
        expected = centre[axis] + index[axis] / 2
        along = [-1 if a == axis else 1 for a in range(3)]
        np.testing.assert_allclose(found, np.broadcast_to(expected.reshape(along), size), atol=1e-4)
    # a rotation by 30 degrees with voxels of 1 x 2 mm: in millimetres
    angle = math.radians(30)
    found = patch(x, Change(angle=angle), origin, size, spacing=(1.0, 2.0, 5.0))
    turned = centre[2] + math.cos(angle) * index[2][None, :] + math.sin(angle) * 2.0 * index[1][:, None]
    np.testing.assert_allclose(found[3], turned, atol=1e-4)
    # the half of the patch at its end, enlarged: edges meet edges
    found = patch(x, Change(crop=0.5, at=(0.0, 0.0, 1.0)), origin, size)
    np.testing.assert_allclose(found[0, 0], 6 + 5 - 0.5 + (np.arange(10) + 0.5) / 2, atol=1e-4)


def test_beyond_the_volume_its_border_continues() -> None:
    volume = np.random.default_rng(0).normal(size=(4, 8, 8))
    found = patch(volume, Change(scale=0.5), (0, 0, 0), (4, 8, 8))
    assert np.isfinite(found).all()
    assert volume.min() <= found.min() <= found.max() <= volume.max()
    np.testing.assert_allclose(found[0, 0, 0], volume[0, 0, 0], rtol=1e-5)


def test_slices_change_in_their_plane_alone() -> None:
    volume = np.random.default_rng(0).normal(size=(5, 16, 16))
    alone = patch(volume[2:3], Change(angle=0.3, scale=1.1, crop=0.8, at=(0.9, 0.5, 0.1)), (0, 0, 0), (1, 16, 16))
    among = patch(volume, Change(angle=0.3, scale=1.1, crop=0.8, at=(0.9, 0.5, 0.1)), (2, 0, 0), (1, 16, 16))
    np.testing.assert_allclose(alone, among, atol=1e-6)


def test_changes_are_drawn_within_their_ranges_and_from_their_stream() -> None:
    settings = Augmentation(flip=["x"], rotate_degrees=[-10, 20], scale=[0.9, 1.2], crop=[0.5, 1], share=0.6)
    drawn = [Augmenter(settings, stream(1, "x")).draw() for _ in range(2)]
    assert drawn[0] == drawn[1]
    augmenter = Augmenter(settings, stream(2, "x"))
    changes = [augmenter.draw() for _ in range(1000)]
    assert 430 < sum(c.flip == (2,) for c in changes) < 570
    assert all(c.flip in ((), (2,)) for c in changes)
    moved = [c for c in changes if c.angle]
    assert 540 < len(moved) < 660  # binomial(1000, 0.6): 4 standard deviations
    for values, low, high in (
        ([math.degrees(c.angle) for c in moved], -10, 20),
        ([c.scale for c in moved], 0.9, 1.2),
        ([c.crop for c in moved], 0.5, 1.0),
    ):
        assert low <= min(values) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < max(values) <= high
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=0.06 * (high - low))


def test_all_inputs_of_a_patch_change_alike() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(0, 300, (10, 12, 14))
    settings = Augmentation(flip=["x", "y", "z"], rotate_degrees=[-30, 30], scale=[0.8, 1.3], crop=[0.6, 1])
    source = domains.Images(
        [(one, -one)],
        [(1.0, 1.0, 1.0)],
        (6, 8, 8),
        [(-1000, 1000)] * 2,
        stream(1, "p"),
        Augmenter(settings, stream(1, "a")),
    )
    state = json.loads(json.dumps(source.state()))
    drawn = source.draw(8)
    assert drawn.shape == (8, 2, 6, 8, 8)
    torch.testing.assert_close(drawn[:, 0], -drawn[:, 1])
    source.restore(state)
    assert torch.equal(source.draw(8), drawn)


def test_a_patch_of_the_size_of_slices_is_the_whole_slice() -> None:
    scan = np.random.default_rng(0).normal(0, 300, (5, 12, 10))
    source = domains.Images(
        [(scan,)], [(1.0, 1.0, 1.0)], (1, 12, 10), [(-1000, 1000)], stream(1, "p"), Augmenter(Augmentation(), stream(1))
    )
    drawn = source.draw(40)[:, 0, 0].numpy() * 1000
    numbers = [int(np.abs(scan.clip(-1000, 1000) - one).max((1, 2)).argmin()) for one in drawn]
    assert set(numbers) == set(range(5))
    np.testing.assert_allclose(drawn, scan.clip(-1000, 1000)[numbers], atol=1e-3)


# settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": {}}, r"identity is not defined for 2 inputs and one output; write losses: \{identity: 0\}"),
        (
            {"generator": TINY["generator"] | {"skip": True}},
            "skip cannot add 2 inputs to one output; write skip: false",
        ),
        ({"generator": TINY["generator"] | {"branch_blocks": 3}}, "write at most branch_blocks: 2"),
        ({"generator": TINY["generator"] | {"norm": "batch"}}, "generator: norm: batch needs several patches at once"),
        ({"discriminator": {"layers": 1, "norm": "batch"}}, "discriminator: norm: batch needs several patches"),
        ({"generator": {"downs": 3, "padding": "reflect"}}, "padding: reflect needs a larger patch than"),
        ({"generator": TINY["generator"] | {"downs": 3}}, "leaves one voxel after 3 down-samplings"),
        ({"source": {"view": "ct", "also": [{"view": "ct"}]}}, "view 'ct' with where None is an input twice"),
        ({"source": {"view": "ct", "also": ALSO, "range": [1, 1]}}, "source: range .* must rise"),
        ({"losses": {"identity": 0, "cycle": {"measure": "ssim"}}}, "write at most size: 7, or a larger patch"),
        ({"losses": {"identity": 0, "cycle": {"measure": "ssim", "similarity": {"size": 4}}}}, "write size: 5"),
        ({"losses": {"identity": 0, "cycle": {"forward": 0, "backward": 0}}}, "both weights are 0"),
        ({"schedule": {"kind": "linear", "start": 6}}, "start 6 is not before the last of 6 iterations"),
        ({"schedule": {"start": 3}}, "start is of no use with kind: constant"),
        ({"augment": {"scale": [1.2, 0.8]}}, r"scale \[1.2, 0.8\] must rise"),
        ({"augment": {"crop": [0.5, 1.5]}}, "less than or equal to 1"),
        ({"augment": {"flip": ["x", "x"]}}, "names an axis twice"),
        ({"dimensions": 2, "patch": [8, 8], "inference": {}, "augment": {"flip": ["z"]}}, "slices have no z axis"),
        ({"discriminator": {"layers": 2, "flat": 2}}, "which needs 16 voxels along each axis"),
    ],
)
def test_bad_settings_say_what_to_write(changes: dict, message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        Synthesis(**(TINY | changes))


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        Synthesis(**(TINY | {"losses": {}, "hu_range": [1, 0], "schedule": {"start": 3}}))
    text = str(caught.value)
    assert all(part in text for part in ("identity is not defined", "must rise", "start is of no use"))
