# What the images show, beside what their headers say; the final table of scans.


rule examine:
    input:
        volumes=result("volumes/{shard}.tsv"),
    output:
        examined=result("cohort/examined/{shard}.tsv"),
    log:
        logfile("examine", "{shard}"),
    benchmark:
        timing("examine", "{shard}")
    conda:
        "../../envs/dicom.yaml"
    threads: study.workers
    resources:
        mem_mb=memory(2000),
        runtime=minutes(120),
    params:
        settings=settings("examine"),
        code=code("examine"),
        root=results_root,
    script:
        "../scripts/examine.py"


# Identical pixels under two patients stop the study here, before any split.
rule establish:
    input:
        accepted=result("cohort/accepted.tsv"),
        flow=result("cohort/curation-flow.tsv"),
        volumes=volumes(study.shards),
        examined=expand(result("cohort/examined/{shard}.tsv"), shard=study.shards),
        review=filled_review,
    output:
        scans=result("cohort/scans.tsv"),
        review=result("cohort/review.tsv"),
        duplicates=result("cohort/duplicates.tsv"),
        flow=result("cohort/flow.tsv"),
    log:
        logfile("establish"),
    benchmark:
        timing("establish")
    conda:
        "../../envs/dicom.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, per_input_mb=10),
        runtime=minutes(15),
    params:
        settings=settings("establish"),
        code=code("establish"),
    script:
        "../scripts/establish.py"
