# Views: versions of every scan's image by resampling and intensity treatment.


rule prepare:
    input:
        source=prepared_from,
    output:
        view=view_manifest("{view}", "{fold}", "{shard}"),
    log:
        logfile("prepare", "{view}", "{fold}", "{shard}"),
    benchmark:
        timing("prepare", "{view}", "{fold}", "{shard}")
    wildcard_constraints:
        view=any_of(name for name, view in study.views.items() if not view.synthesis),
    conda:
        "../../envs/images.yaml"
    threads: study.workers
    resources:
        mem_mb=memory(3000),
        runtime=minutes(120),
    params:
        settings=settings("prepare"),
        code=code("prepare"),
        root=results_root,
    script:
        "../scripts/prepare.py"
