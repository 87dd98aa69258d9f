# Splits: patients to training, validation, test and external, frozen before anything is fitted.


rule split:
    input:
        patients=result("cohort/patients.tsv"),
        duplicates=result("cohort/duplicates.tsv"),
        parent=parent_split,
        members=split_members,
        table=committed_split,
    output:
        split=split_table("{split}"),
    log:
        logfile("split", "{split}"),
    benchmark:
        timing("split", "{split}")
    wildcard_constraints:
        split=any_of(study.splits),
    conda:
        "../../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=memory(500),
        runtime=minutes(5),
    params:
        settings=settings("split"),
        code=code("split"),
    script:
        "../scripts/split.py"
