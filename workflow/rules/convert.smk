# Conversion: volumes and contours on the scan's own grid, one job per shard.


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
        settings=settings("convert"),
        code=code("convert"),
        root=results_root,
    script:
        "../scripts/convert.py"
