# Splits: patients to training, validation, test and external, frozen before anything is fitted.


def parent_split(wildcards):
    parent = study.splits[wildcards.split].parent
    return [split_table(parent[0])] if parent else []


def split_members(wildcards):
    """The imported feature set whose patients are to be split, if there is one."""
    of = study.splits[wildcards.split].of
    return [feature_table(of)] if of in study.features else []


def committed_split(wildcards):
    table = study.splits[wildcards.split].table
    return [table] if table else []


rule split:
    input:
        patients=result("cohort/patients.tsv"),
        parent=parent_split,
        members=split_members,
        table=committed_split,
    output:
        split=split_table("{split}"),
    params:
        settings=settings("split"),
        code=code("split"),
    log:
        logfile("split", "{split}"),
    benchmark:
        timing("split", "{split}")
    conda:
        "../../envs/statistics.yaml"
    wildcard_constraints:
        split=any_of(study.splits),
    threads: 1
    resources:
        mem_mb=memory(500),
        runtime=minutes(5),
    script:
        "../scripts/split.py"
