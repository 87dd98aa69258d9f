# Reader studies: export a blinded offline page, take in the answers that come back.


def reader_arm(arm):
    return lambda wildcards: views([getattr(study.readers[wildcards.reader].views, arm).view], study.shards)


def reader_ledgers(wildcards):
    arms = study.readers[wildcards.reader].views
    models = [*study.models_of_view(arms.acquired.view), *study.models_of_view(arms.synthetic.view)]
    return ledgers(dict.fromkeys(models))


rule export_readers:
    input:
        acquired=reader_arm("acquired"),
        synthetic=reader_arm("synthetic"),
        scans=result("cohort/scans.tsv"),
        split=lambda wildcards: split_table(study.readers[wildcards.reader].split),
        ledgers=reader_ledgers,
        fingerprint=private("salt.sha256"),
    output:
        manifest=result("readers/{reader}/app.tsv"),
        items=result("readers/{reader}/items.tsv"),
        key=private("readers/{reader}.tsv"),
    params:
        settings=settings("export_readers"),
        code=code("export_readers"),
        root=study.root,
        folder=result("readers/{reader}/app"),
        salt=private("salt"),
    log:
        logfile("export_readers", "{reader}"),
    benchmark:
        timing("export_readers", "{reader}")
    conda:
        "../../envs/report.yaml"
    wildcard_constraints:
        reader=any_of(study.readers),
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    script:
        "../scripts/export_readers.py"


def answer_files(wildcards):
    """Answers that are there now; a new file re-runs the ingestion."""
    folder = study.readers[wildcards.reader].answers
    return sorted(str(path) for path in Path(folder).glob("*.json")) if folder else []


rule ingest_readers:
    input:
        items=result("readers/{reader}/items.tsv"),
        key=private("readers/{reader}.tsv"),
        answers=answer_files,
    output:
        answers=result("readers/{reader}/answers.parquet"),
        rejected=result("readers/{reader}/rejected.tsv"),
        metrics=result("readers/{reader}/metrics.json"),
        manifest=result("readers/{reader}/manifest.tsv"),
        figure=report(
            result("readers/{reader}/figures/summary.svg"),
            caption="../report/analysis.rst",
            category="Reader studies",
            labels={"reader study": "{reader}"},
        ),
    params:
        settings=settings("ingest_readers"),
        code=code("ingest_readers"),
        root=study.root,
    log:
        logfile("ingest_readers", "{reader}"),
    benchmark:
        timing("ingest_readers", "{reader}")
    conda:
        "../../envs/report.yaml"
    wildcard_constraints:
        reader=any_of(study.readers),
    threads: 1
    resources:
        mem_mb=memory(1500),
        runtime=minutes(15),
    script:
        "../scripts/ingest_readers.py"
