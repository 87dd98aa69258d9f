# Conversion: volumes and contours on the scan's own grid, one job per shard. Before it, what all images will take.

SPACE = result("cohort/space.tsv")


rule estimate_space:
    input:
        curation=result("cohort/curation.parquet"),
    output:
        SPACE,
    log:
        logfile("estimate_space"),
    benchmark:
        timing("estimate_space")
    conda:
        "../../envs/images.yaml"
    threads: 1
    resources:
        mem_mb=memory(500, per_input_mb=10),
        runtime=minutes(10),
    params:
        settings=settings("estimate_space"),
        code=code("estimate_space"),
        root=results_root,
    script:
        "../scripts/estimate_space.py"


# Not part of a run: `snakemake space` says what there is, what is to come, and what is free.
rule space:
    input:
        curation=result("cohort/curation.parquet"),
    log:
        logfile("space"),
    localrule: True
    conda:
        "../../envs/images.yaml"
    threads: 1
    resources:
        mem_mb=memory(500, per_input_mb=10),
        runtime=minutes(10),
    params:
        settings=settings("estimate_space"),
        code=code("estimate_space"),
        root=results_root,
    script:
        "../scripts/estimate_space.py"


rule convert:
    input:
        shard=result("cohort/shards/{shard}.tsv"),
        files=private("files/{shard}.parquet"),
    output:
        volumes=result("volumes/{shard}.tsv"),
        masks=[mask_manifest(source, MAIN, "{shard}") for source in study.convert.sources],
    log:
        private_log("convert", "{shard}"),
    benchmark:
        timing("convert", "{shard}")
    conda:
        "../../envs/dicom.yaml"
    threads: study.workers
    resources:
        mem_mb=memory(3000),
        runtime=minutes(120),
    params:
        room=room,
        settings=settings("convert"),
        code=code("convert"),
        root=results_root,
    script:
        "../scripts/convert.py"
