# Reader studies: export a blinded offline page, take in the answers that come back.


rule export_readers:
    input:
        acquired=reader_arm("acquired"),
        synthetic=reader_arm("synthetic"),
        scans=result("cohort/scans.tsv"),
        split=lambda wildcards: split_table(study.readers[wildcards.reader].split),
        ledgers=reader_ledgers,
        fingerprint=private("fingerprint.sha256"),
        held=held("export_readers", "reader"),
    output:
        manifest=result("readers/{reader}/app.tsv"),
        blinded=result("readers/{reader}/items.tsv"),
        key=private("readers/{reader}.tsv"),
    log:
        logfile("export_readers", "{reader}"),
    benchmark:
        timing("export_readers", "{reader}")
    wildcard_constraints:
        reader=any_of(study.readers),
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        settings=settings("export_readers"),
        code=code("export_readers"),
        root=results_root,
        folder=result("readers/{reader}/app"),
        salt=private("salt"),
    script:
        "../scripts/export_readers.py"


rule ingest_readers:
    input:
        blinded=result("readers/{reader}/items.tsv"),
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
    log:
        logfile("ingest_readers", "{reader}"),
    benchmark:
        timing("ingest_readers", "{reader}")
    wildcard_constraints:
        reader=any_of(study.readers),
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500),
        runtime=minutes(15),
    params:
        settings=settings("ingest_readers"),
        code=code("ingest_readers"),
        root=results_root,
    script:
        "../scripts/ingest_readers.py"
