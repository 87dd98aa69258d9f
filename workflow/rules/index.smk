# Index: one row per file of a centre. Refresh it with `-R index` when files of a folder changed.


# The key itself is never a declared output: Snakemake deletes outputs before it runs a rule again.
rule pseudonym_key:
    output:
        fingerprint=private("fingerprint.sha256"),
    log:
        private_log("pseudonym_key"),
    localrule: True
    conda:
        "../../envs/dicom.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    params:
        settings=settings("pseudonym_key"),
        code=code("pseudonym_key"),
        salt=private("salt"),
    script:
        "../scripts/pseudonym_key.py"


rule index:
    input:
        simulated=simulated_manifest,
        fetched=fetched_files,
    output:
        table=private("index/{centre}.parquet"),
    log:
        private_log("index", "{centre}"),
    benchmark:
        timing("index", "{centre}")
    conda:
        "../../envs/dicom.yaml"
    threads: study.workers
    resources:
        mem_mb=memory(1500),
        runtime=minutes(120),
    params:
        settings=settings("index"),
        code=code("index"),
        previous=private("index/{centre}.previous.parquet"),
    script:
        "../scripts/index.py"
