# Provenance and the report of the study; audit and clean-up of its files.

FOLDS = [MAIN]
FITTED = [name for name in study.features if name in study.fitted_sets(name)]
ADAPTERS = sorted(path.stem for path in (PROJECT / "workflow" / "scripts").glob("*.py"))

COHORT = {name: result(f"cohort/{name}") for name in ("curation.parquet", "scans.tsv", "patients.tsv", "flow.tsv")}
TRAINED = expand(
    result("models/{model}/{fold}/{file}"),
    model=[*study.synthesis, *study.segmentation],
    fold=FOLDS,
    file=["weights.safetensors", "settings.json", "history.csv", "ledger.json"],
)
MANIFESTS = [
    *volumes(study.shards),
    *views(study.views, study.shards),
    *(path for source in study.mask_sources for path in masks(source, study.shards)),
    *expand(result("analyses/{analysis}/manifest.tsv"), analysis=study.analyses),
    *expand(result("readers/{reader}/manifest.tsv"), reader=study.readers),
]
EVIDENCE = [
    *COHORT.values(),
    *(split_table(name) for name in study.splits),
    *(feature_table(name) for name in study.features),
    *TRAINED,
    *ledgers([*FITTED, *study.fitted_views]),
    *MANIFESTS,
    *expand(result("analyses/{analysis}/{file}.json"), analysis=study.analyses, file=["metrics", "ledger"]),
    *expand(result("readers/{reader}/{file}"), reader=study.readers, file=["metrics.json", "rejected.tsv", "app.tsv"]),
]


rule provenance:
    input:
        evidence=EVIDENCE,
    output:
        record=result("report/provenance.json"),
    log:
        logfile("provenance"),
    benchmark:
        timing("provenance")
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        settings=settings("provenance"),
        code=json.dumps({name: code(name) for name in ADAPTERS}, sort_keys=True),
        root=results_root,
    script:
        "../scripts/provenance.py"


rule report:
    input:
        evidence=EVIDENCE,
        provenance=rules.provenance.output.record,
        samples=expand(result("models/{model}/{fold}/samples.zip"), model=study.synthesis, fold=FOLDS),
        manifests=[centre.idc.manifest for centre in study.centres.values() if centre.idc],
    output:
        page=report(
            result("report/report.html"),
            caption="../report/report.rst",
            category="Report",
            labels={"report": study.study},
        ),
        flow=result("report/flow.svg"),
        checklists=expand(result("report/checklists/{name}.csv"), name=checklists.NAMES),
    log:
        logfile("report"),
    benchmark:
        timing("report")
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(20),
    params:
        settings=settings("report"),
        code=code("report"),
        root=results_root,
    script:
        "../scripts/report.py"


# Not part of a run: `snakemake audit` hashes every file of the study and writes audit.tsv.
rule audit:
    input:
        manifests=MANIFESTS,
    log:
        logfile("audit"),
    localrule: True
    conda:
        "../../envs/images.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=minutes(240),
    params:
        settings=settings("audit"),
        code=code("audit"),
        root=results_root,
        table=result("audit.tsv"),
    script:
        "../scripts/audit.py"


# Not part of a run: `snakemake clean` removes results of centres, views, models, ... that the study no longer lists.
rule clean:
    log:
        logfile("clean"),
    localrule: True
    conda:
        "../../envs/images.yaml"
    threads: 1
    resources:
        mem_mb=memory(500),
        runtime=minutes(30),
    params:
        settings=settings("clean"),
        code=code("clean"),
        root=results_root,
    script:
        "../scripts/clean.py"
