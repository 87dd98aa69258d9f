# Curation: which scans are accepted, repaired how, why not the others; and the cohort of all centres.


rule curate:
    input:
        table=private("index/{centre}.parquet"),
        key=private("fingerprint.sha256"),
    output:
        curation=result("cohort/curation/{centre}.parquet"),
        files=private("curated/{centre}.parquet"),
    log:
        private_log("curate", "{centre}"),
    benchmark:
        timing("curate", "{centre}")
    conda:
        "../../envs/dicom.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, per_input_mb=10),
        runtime=minutes(60),
    params:
        settings=settings("curate"),
        code=code("curate"),
        salt=private("salt"),
    script:
        "../scripts/curate.py"


rule cohort:
    input:
        curation=expand(result("cohort/curation/{centre}.parquet"), centre=study.centres),
        files=expand(private("curated/{centre}.parquet"), centre=study.centres),
        clinical=clinical_table,
        key=private("fingerprint.sha256"),
    output:
        curation=result("cohort/curation.parquet"),
        accepted=result("cohort/accepted.tsv"),
        patients=result("cohort/patients.tsv"),
        flow=result("cohort/curation-flow.tsv"),
        shards=expand(result("cohort/shards/{shard}.tsv"), shard=study.shards),
        files=expand(private("files/{shard}.parquet"), shard=study.shards),
        pseudonyms=private("pseudonyms.tsv"),
    log:
        private_log("cohort"),
    benchmark:
        timing("cohort")
    conda:
        "../../envs/dicom.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, per_input_mb=10),
        runtime=minutes(30),
    params:
        settings=settings("cohort"),
        code=code("cohort"),
        salt=private("salt"),
    script:
        "../scripts/cohort.py"
