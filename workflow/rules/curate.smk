# Curation: which scans are accepted, repaired how, why not the others; and the cohort of all centres.


rule curate:
    input:
        index=private("index/{centre}.parquet"),
        key=private("salt.sha256"),
    output:
        curation=result("cohort/curation/{centre}.parquet"),
        files=private("curated/{centre}.parquet"),
    params:
        settings=settings("curate"),
        code=code("curate"),
        salt=private("salt"),
    log:
        logfile("curate", "{centre}"),
    benchmark:
        timing("curate", "{centre}")
    conda:
        "../../envs/dicom.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, per_input_mb=10),
        runtime=minutes(60),
    script:
        "../scripts/curate.py"


def clinical_table(_):
    if study.clinical is None:
        return []
    return [result("simulated/clinical.csv") if study.simulated else study.clinical.table]


rule cohort:
    input:
        curation=expand(result("cohort/curation/{centre}.parquet"), centre=study.centres),
        files=expand(private("curated/{centre}.parquet"), centre=study.centres),
        clinical=clinical_table,
        key=private("salt.sha256"),
    output:
        curation=result("cohort/curation.parquet"),
        scans=result("cohort/scans.tsv"),
        patients=result("cohort/patients.tsv"),
        flow=result("cohort/flow.tsv"),
        shards=expand(result("cohort/shards/{shard}.tsv"), shard=study.shards),
        files=expand(private("files/{shard}.parquet"), shard=study.shards),
        pseudonyms=private("pseudonyms.tsv"),
    params:
        settings=settings("cohort"),
        code=code("cohort"),
        salt=private("salt"),
    log:
        logfile("cohort"),
    benchmark:
        timing("cohort")
    conda:
        "../../envs/dicom.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, per_input_mb=10),
        runtime=minutes(30),
    script:
        "../scripts/cohort.py"
