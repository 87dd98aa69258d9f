# Views: versions of every scan's image by resampling and intensity treatment.


rule fit_view:
    input:
        sources=fitted_sources,
        masks=fitted_masks,
        references=fitted_references,
        minus=fitted_minus,
        cohort=view_cohort,
        split=fitted_split,
        ledgers=fitted_upstream,
        held=held("fit_view", "view"),
    output:
        model=result("models/{view}/{fold}/fit.json"),
        ledger=result("models/{view}/{fold}/ledger.json"),
    log:
        logfile("fit_view", "{view}", "{fold}"),
    benchmark:
        timing("fit_view", "{view}", "{fold}")
    wildcard_constraints:
        view=any_of(study.fitted_views),
    conda:
        "../../envs/images.yaml"
    threads: study.workers
    resources:
        mem_mb=memory(3000),
        runtime=minutes(240),
    params:
        settings=settings("fit_view"),
        code=code("fit_view"),
        root=results_root,
    script:
        "../scripts/fit_view.py"


rule prepare:
    input:
        source=prepared_from,
        masks=view_masks,
        references=view_references,
        minus=view_minus,
        cohort=view_cohort,
        model=view_fit,
        held=held("prepare", "view"),
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
        keep=stays,
        room=room,
    script:
        "../scripts/prepare.py"
