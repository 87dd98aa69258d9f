"""Put the report together: read what the stages wrote, fill the page, write one file."""

from __future__ import annotations

import base64
import hashlib
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from .. import tables
from ..config.report import ReportSettings
from ..errors import UserError
from ..files import read_json, write_text
from ..jobs import SILENT, Log
from ..tables import schemas
from ..where import holds
from . import checklists, contact, evidence, flow, gallery, leaks, licences, results, training, writing
from .inputs import AnalysisFiles, ReaderFiles, ReportInputs

LARGEST_BYTES = 10_000_000
MIME = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
CHAPTER_TITLES = {
    "summary": "Summary",
    "participants": "Participants",
    "cohort": "Cohort",
    "pictures": "Pictures",
    "analyses": "Results",
    "readers": "Reader studies",
    "training": "Training",
    "exclusions": "Exclusions",
    "methods": "Methods",
    "checklists": "Checklists",
    "limits": "Limits",
}


def build(
    settings: ReportSettings,
    *,
    study: Mapping[str, Any],
    root: Path,
    inputs: ReportInputs,
    output: Path,
    flow_svg: Path | None = None,
    checklists_out: Path | None = None,
    recipes: Mapping[str, Mapping[str, Any]] | None = None,
    log: Log = SILENT,
) -> None:
    """Write the report as one HTML file without any outside request; equal inputs give equal bytes.

    `flow_svg` is the file of the participant flow as a drawing of its own, `checklists_out` a folder for the filled
    checklists as CSV; `recipes` are those of the extracted feature sets.

    `study` is the validated study as plain data; `root` its results folder, to which the paths in manifests relate.

    Raises
    ------
    UserError
        if a figure or table is not the file that its manifest lists.
    """
    context = _context(settings, study, root, inputs, recipes or {}, log)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["is_number"] = results.is_number
    environment.filters |= {"number": results.number, "p": results.p_value, "words": results.words}
    page = environment.get_template("report.html.j2").render(**context)
    size = len(page.encode())
    log.event("report", bytes=size)
    if size > LARGEST_BYTES:
        log.event("the report is larger than 10 MB: lower report: gallery, or the number of figures", bytes=size)
    write_text(output, page)
    if flow_svg is not None:
        write_text(flow_svg, context["flow_alone"])
    if checklists_out is not None:
        checklists.write(context["checklists"], checklists_out)


def data_uri(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def _file_uri(path: Path) -> str:
    return data_uri(path.read_bytes(), MIME[path.suffix.lower()])


def _context(
    settings: ReportSettings,
    study: Mapping[str, Any],
    root: Path,
    inputs: ReportInputs,
    recipes: Mapping[str, Mapping[str, Any]],
    log: Log,
) -> dict[str, Any]:
    curation = tables.read(inputs.curation, schemas.CURATION)
    scans = tables.read(inputs.scans, schemas.SCANS)
    patients = tables.read(inputs.patients, schemas.PATIENTS)
    outlined = [path for source in sorted(inputs.masks) for path in inputs.masks[source]]
    steps = flow.with_outlines(tables.read(inputs.flow, schemas.FLOW), tables.read_all(outlined, schemas.MASKS))
    splits = {name: tables.read(path, schemas.SPLIT) for name, path in sorted(inputs.splits.items())}
    roles = dict(zip(patients["centre"], patients["role"], strict=True))
    analyses = [_analysis(name, f, settings, study, root) for name, f in inputs.analyses.items()]
    readers = [_readers(name, f, settings, study, root) for name, f in inputs.readers.items()]
    log.progress("analyses", len(analyses), len(analyses))
    ledgers = {name: files.ledger for name, files in inputs.models.items()}
    ledgers |= {name: files.ledger for name, files in inputs.analyses.items() if files.ledger is not None}
    audit = leaks.audit(ledgers, splits)
    pictures, made, sheets = _pictures(settings, study, root, inputs, splits, log)
    centres = study.get("centres") or {}
    simulated = sorted(n for n, c in centres.items() if isinstance(c, Mapping) and c.get("simulate"))
    page = Path(__file__).with_name("page")
    style, script = ((page / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    shown = [c for c in settings.chapters if not (c == "readers" and not readers)]
    if not inputs.models or not any(f.history for f in inputs.models.values()):
        shown = [c for c in shown if c != "training"]
    made_of = evidence.Results(
        study=study,
        root=root,
        inputs=inputs,
        recipes=recipes,
        curation=curation,
        scans=scans,
        patients=patients,
        flow=steps,
        splits=splits,
        analyses=analyses,
        readers=readers,
        audit=audit,
        licences=licences.licences(study),
        provenance=read_json(inputs.provenance),
        places=_places(shown, analyses, readers),
    )
    context: dict[str, Any] = {
        "title": settings.title or str(study.get("title") or study.get("study", "study")),
        "authors": settings.authors,
        "intro": settings.intro,
        "study_name": str(study.get("study", "")),
        "language": settings.language,
        "shown": shown,
        "places": made_of.places,
        "chapters": [(c, CHAPTER_TITLES[c]) for c in shown],
        "simulated": simulated,
        "all_simulated": bool(simulated) and len(simulated) == len(centres),
        "facts": writing.facts(curation, scans, patients),
        "summary": writing.summary(curation, scans, patients, splits, analyses, readers),
        "flow": Markup(flow.draw(steps, roles)) if len(steps) else Markup(),
        "flow_alone": flow.draw(steps, roles, flow.page_style(style)),
        "flow_problems": flow.check(steps),
        "flow_table": _flow_table(steps),
        "splits": _split_table(splits),
        "cohorts": [a for a in analyses if a["kind"] == "cohort"],
        "analyses": [a for a in analyses if a["kind"] != "cohort"],
        "readers": readers,
        "pictures": pictures,
        "made": made,
        "sheets": sheets,
        "passing": _passing(study),
        "synthetic": bool(gallery.synthetic_views(study)),
        "training": training.curves(inputs.models),
        "trained": training.sheets(inputs.models),
        "exclusions": _exclusions(curation),
        "failures": _failures(inputs),
        "licences": made_of.licences,
        "checklists": checklists.fill(made_of, settings.checklists),
        "statuses": checklists.STATUSES,
        "settings": writing.settings_text(writing.without_paths(study)),
        "provenance": made_of.provenance,
        "audit": audit,
        "limits": writing.limits(study, simulated, splits, analyses, readers, scans),
        "style": Markup(style),
        "script": Markup(script),
        "style_hash": _csp_hash(style),
        "script_hash": _csp_hash(script),
    }
    return context


def _places(shown: list[str], analyses: list[dict[str, Any]], readers: list[dict[str, Any]]) -> frozenset[str]:
    """Ids of the page that evidence points to."""
    chapter = {"cohort": "cohort"}
    results = {f"result-{a['name']}" for a in analyses if chapter.get(a["kind"], "analyses") in shown}
    results |= {f"result-{r['name']}" for r in readers if "readers" in shown}
    methods = {"licences", "ledger", "settings", "versions"} if "methods" in shown else set()
    return frozenset({*shown, *results, *methods})


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _title(text: str) -> str:
    text = results.words(text)
    return text[:1].upper() + text[1:]


def _artefacts(manifest: Path, root: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    shown, listed = [], []
    for artefact in results.artefacts(manifest, root):
        entry: dict[str, Any] = {
            "title": artefact.title,
            "caption": artefact.caption,
            "name": artefact.path.name,
            "kind": artefact.kind,
            "file": artefact.path.relative_to(root).as_posix(),
        }
        if artefact.data is not None:
            entry["data"] = data_uri(artefact.data.read_bytes(), "text/csv")
            entry["data_name"] = artefact.data.name
        if artefact.kind == "table":
            entry |= {"table": results.read_csv(artefact.path), "uri": data_uri(artefact.path.read_bytes(), "text/csv")}
            listed.append(entry)
        else:
            entry |= {"uri": _file_uri(artefact.path), "wide": _width_mm(artefact.path) > 125}
            shown.append(entry)
    return shown, listed


def _width_mm(path: Path) -> float:
    """Width of an SVG as it would be printed; pictures count as wide."""
    if path.suffix.lower() != ".svg":
        return 180.0
    found = re.search(r'<svg[^>]*?width="([\d.]+)pt"', path.read_text(encoding="utf-8")[:2000])
    return float(found[1]) / 72 * 25.4 if found else 0.0


def _results(
    name: str,
    metrics: dict[str, Any],
    declared: Mapping[str, Any],
    manifest: Path,
    settings: ReportSettings,
    root: Path,
) -> dict[str, Any]:
    """What the page shows of an analysis or reader study; its words come from the study, so that they rerun nothing."""
    words = {k: str(declared.get(k) or metrics.get(k) or "") for k in ("kind", "title", "question", "caption")}
    shown, listed = _artefacts(manifest, root)
    for entry in shown:
        entry["synthetic"] = bool(declared.get("synthesis")) and entry["kind"] == "picture"
    return {
        "name": name,
        "kind": words["kind"],
        "title": _title(words["title"] or name),
        "question": words["question"],
        "note": settings.captions.get(name) or words["caption"],
        "status": str(metrics.get("status") or ""),
        "sentences": [str(s) for s in metrics.get("summary") or []] if isinstance(metrics.get("summary"), list) else [],
        "warnings": [str(w) for key in ("warnings", "notes") for w in metrics.get(key) or []],
        "definitions": [(results.words(k), v) for k, v in _definitions(metrics) if isinstance(v, str)],
        "estimates": results.estimates(metrics),
        "scalars": results.scalars(metrics),
        "figures": shown,
        "tables": listed,
    }


def _definitions(metrics: Mapping[str, Any]) -> list[tuple[str, Any]]:
    given = metrics.get("definitions")
    return list(given.items()) if isinstance(given, Mapping) else []


def _analysis(
    name: str, files: AnalysisFiles, settings: ReportSettings, study: Mapping[str, Any], root: Path
) -> dict[str, Any]:
    declared = (study.get("analyses") or {}).get(name) or {}
    return _results(name, read_json(files.metrics), declared, files.manifest, settings, root)


def _readers(
    name: str, files: ReaderFiles, settings: ReportSettings, study: Mapping[str, Any], root: Path
) -> dict[str, Any]:
    declared = (study.get("readers") or {}).get(name) or {}
    entry = _results(name, read_json(files.metrics), declared, files.manifest, settings, root)
    refused = results.read_csv(files.rejected) if files.rejected is not None else results.Table([], [])
    return {**entry, "refused": refused}


def _pictures(
    settings: ReportSettings,
    study: Mapping[str, Any],
    root: Path,
    inputs: ReportInputs,
    splits: Mapping[str, pd.DataFrame],
    log: Log,
) -> tuple[list[dict[str, str]], ...]:
    """Pictures of centres, of what models made, and contact sheets."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        centres = (
            gallery.scans(
                inputs.volumes, inputs.masks, root, folder, number=settings.gallery, window=settings.window_hu, log=log
            )
            if settings.gallery
            else []
        )
        made = []
        for view, source, model in gallery.synthetic_views(study):
            if view not in inputs.views or source not in inputs.views or {view, source} & set(_passing(study)):
                continue
            picture = gallery.translations(
                view, source, model, inputs.views, inputs.masks, root, folder / f"view-{view}.jpg",
                held_out=leaks.held_out_by(inputs.models.get(model), splits), prefer=_meant(study, model, inputs),
                number=settings.gallery, window=settings.window_hu, difference=settings.difference_hu,
            )  # fmt: skip
            if picture is not None:
                made.append(picture)
        sheets = contact.sheets(
            inputs.volumes, root, folder, number=settings.contact, window=settings.window_hu, log=log
        )
        return tuple(
            [{"title": p.title, "caption": p.caption, "uri": _file_uri(p.path), "name": p.path.name} for p in group]
            for group in (centres, made, sheets)
        )


def _passing(study: Mapping[str, Any]) -> list[str]:
    """Views whose images are gone when the report is written."""
    return [name for name, own in (study.get("views") or {}).items() if own.get("keep") is False]


def _meant(study: Mapping[str, Any], model: str, inputs: ReportInputs) -> set[str] | None:
    """Scans that the source domain of a model names; None where it names none in terms of the scan table."""
    where = (((study.get("synthesis") or {}).get(model) or {}).get("source") or {}).get("where")
    if not where:
        return None
    scans = tables.read(inputs.scans, schemas.SCANS)
    try:
        return set(scans[holds(where, scans, where=model)]["scan"])
    except UserError:  # a condition on other tables' columns: pictures of any scan will do
        return None


def _flow_table(steps: pd.DataFrame) -> results.Table:
    rows = [
        [str(r["centre"]), str(r["box"]), str(r["code"]), str(r["scans"]), str(r["patients"])]
        for r in steps.sort_values(["centre", "step", "box", "code"], kind="stable").to_dict("records")
    ]
    return results.Table(["centre", "box", "reason", "scans", "patients"], rows)


def _split_table(splits: Mapping[str, pd.DataFrame]) -> list[tuple[str, results.Table]]:
    result = []
    for name, split in splits.items():
        counts = pd.crosstab(split["centre"], split["part"])
        parts = [p for p in tables.PARTS if p in counts]
        rows = [[str(c), *(str(counts.loc[c, p]) for p in parts), str(counts.loc[c].sum())] for c in counts.index]
        rows.append(["all", *(str(counts[p].sum()) for p in parts), str(len(split))])
        result.append((name, results.Table(["centre", *parts, "all"], rows)))
    return result


def _exclusions(curation: pd.DataFrame) -> results.Table:
    """Defect codes by centre: rejected and repaired candidates; a candidate with two codes counts in both rows."""
    centres = sorted(curation["centre"].unique())
    rows = []
    coded = curation.assign(code=curation["codes"].str.split(";")).explode("code")
    coded = coded[coded["code"].fillna("").str.strip() != ""]
    coded["code"] = coded["code"].str.strip()
    for (code, verdict), group in coded.groupby(["code", "verdict"], sort=True):
        counts = group["centre"].value_counts()
        rows.append([str(code), str(verdict), *(str(counts.get(c, 0)) for c in centres), str(len(group))])
    return results.Table(["code", "verdict", *map(str, centres), "all"], rows)


def _failures(inputs: ReportInputs) -> results.Table:
    """Scans that a later stage could not process."""
    groups = [("volumes", "", inputs.volumes, schemas.VOLUMES)]
    groups += [("masks", s, p, schemas.MASKS) for s, p in sorted(inputs.masks.items())]
    groups += [("views", v, p, schemas.VIEWS) for v, p in sorted(inputs.views.items())]
    rows = []
    for stage, name, paths, schema in groups:
        frame = tables.read_all(list(paths), schema)
        frame = frame[frame["status"] != "ok"]
        for (centre, status, reason), group in frame.groupby(["centre", "status", "reason"], sort=True):
            rows.append([f"{stage} {name}".strip(), str(centre), str(status), str(reason), str(len(group))])
    return results.Table(["stage", "centre", "status", "reason", "scans"], rows)
