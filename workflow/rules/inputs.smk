# Input functions of the rules, in the order of the stages. Each takes wildcards and returns paths.

# fetch


def frozen_manifest(wildcards):
    return study.centres[wildcards.centre].idc.manifest


# index


def fetched_files(wildcards):
    """The files that belong to a centre of the Imaging Data Commons; its folder may hold others."""
    return [private(f"idc/{wildcards.centre}.parquet")] if study.centres[wildcards.centre].idc else []


def simulated_manifest(wildcards):
    return [result(f"simulated/{wildcards.centre}.tsv")] if wildcards.centre in study.simulated else []


def image_table(wildcards):
    """The table of images that are no DICOM, if the centre has one."""
    table = study.centres[wildcards.centre].table
    return [table.file] if table else []


# curate


def clinical_table(_):
    if study.clinical is None:
        return []
    return [result("simulated/clinical.csv") if study.simulated else study.clinical.table]


# examine


def filled_review(_):
    """The review table that a person filled in, if the study names one."""
    return [study.review] if study.review else []


# split


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


# prepare


def prepared_from(wildcards):
    return source_manifest(wildcards.view, wildcards.fold, wildcards.shard)


def view_masks(wildcards):
    source = study.views[wildcards.view].masks
    return masks(source, [wildcards.shard], wildcards.fold) if source else []


def references_of(view, shards, fold):
    """Manifests of the scans whose grids a view takes."""
    onto = study.views[view].onto
    if onto is None:
        return []
    return volumes(shards) if onto.view == "scan" else views([onto.view], shards, fold)


def view_references(wildcards):
    return references_of(wildcards.view, [wildcards.shard], wildcards.fold)


def extracted_masks(wildcards):
    """Manifests of every mask source of a feature set."""
    return [mask_manifest(source, MAIN, wildcards.shard) for source in study.features[wildcards.set].sources]


def subtracted_from(view, shards, fold):
    """Manifests of the view that a view subtracts."""
    minus = study.views[view].minus
    if minus is None:
        return []
    return volumes(shards) if minus == "scan" else views([minus], shards, fold)


def view_minus(wildcards):
    return subtracted_from(wildcards.view, [wildcards.shard], wildcards.fold)


def view_cohort(wildcards):
    """The cohort's tables, only where an expression selects scans."""
    selects = study.views[wildcards.view].selects
    return [result("cohort/scans.tsv"), result("cohort/patients.tsv")] if selects else []


def view_fit(wildcards):
    fitted = wildcards.view in study.fitted_views
    return [result(f"models/{wildcards.view}/{wildcards.fold}/fit.json")] if fitted else []


def fitted_sources(wildcards):
    """Manifests of what a view is fitted on; centres of the external role are not even inputs."""
    return [source_manifest(wildcards.view, wildcards.fold, shard) for shard in study.development_shards]


def fitted_masks(wildcards):
    source = study.views[wildcards.view].masks
    return masks(source, study.development_shards, wildcards.fold) if source else []


def fitted_references(wildcards):
    return references_of(wildcards.view, study.development_shards, wildcards.fold)


def fitted_minus(wildcards):
    return subtracted_from(wildcards.view, study.development_shards, wildcards.fold)


def fitted_split(wildcards):
    return split_table(study.views[wildcards.view].fit.split)


def fitted_upstream(wildcards):
    """Ledgers of the models behind the images, masks and grids that a view is fitted on."""
    models = [m for m in study.models_of_view(wildcards.view) if m != wildcards.view]
    return ledgers(models, wildcards.fold)


# synthesize


def imported_weights(section):
    """The file of a model that was trained elsewhere, or that training starts from, and the ledger beside it."""

    def weights(wildcards):
        model = getattr(study, section)[wildcards.model]
        given = model.import_ or getattr(model, "start_from", None)
        beside = ledger.beside(given.path) if given else None
        return [*([given.path] if given else []), *([beside] if beside else [])]

    return weights


def synthesis_views(wildcards):
    """Manifests of both domains; centres of the external role are not even inputs of a training, and none of imported
    weights."""
    model = study.synthesis[wildcards.model]
    return [] if model.import_ else views(model.views, study.development_shards, wildcards.fold)


def synthesis_upstream(wildcards):
    names = [m for view in study.synthesis[wildcards.model].views for m in study.models_of_view(view)]
    return ledgers(dict.fromkeys(names), wildcards.fold)


def synthesis_model(wildcards):
    return study.views[wildcards.view].synthesis


def selecting_tables(wildcards):
    """The cohort's tables, only where expressions select scans: else a change of them would concern every shard."""
    model = study.synthesis[synthesis_model(wildcards)]
    selects = model.inference.where or model.inputs > 1
    return [result("cohort/scans.tsv"), result("cohort/patients.tsv")] if selects else []


def further_inputs(wildcards):
    """Manifests of the views of further inputs of a synthesis model."""
    also = study.synthesis[synthesis_model(wildcards)].source.also
    return views([extra.view for extra in also], [wildcards.shard], wildcards.fold)


# segment


def segmentation_views(wildcards):
    model = study.segmentation[wildcards.model]
    return [] if model.import_ else views([model.view], study.development_shards, wildcards.fold)


def segmentation_masks(wildcards):
    model = study.segmentation[wildcards.model]
    return [] if model.import_ else masks(model.masks, study.development_shards, wildcards.fold)


def segmentation_upstream(wildcards):
    model = study.segmentation[wildcards.model]
    names = [*study.models_of_view(model.view), *study.models_of_masks(model.masks)]
    return ledgers(dict.fromkeys(names), wildcards.fold)


# extract


def set_upstream(wildcards):
    """Ledgers of what lies behind a set that is fitted: image models and other fitted sets."""
    others = [name for name in study.fitted_sets(wildcards.set) if name != wildcards.set]
    return ledgers([*study.models_of_features(wildcards.set), *others])


def phantom_features(wildcards):
    phantom = study.features[wildcards.set].phantom
    return [feature_table(phantom.features)] if phantom and phantom.features else []


# analyse


def analysis_outputs(category):
    folder = result("analyses/{analysis}")
    return {
        "metrics": f"{folder}/metrics.json",
        "manifest": f"{folder}/manifest.tsv",
        "ledger": f"{folder}/ledger.json",
        "figure": report(
            f"{folder}/figures/summary.svg",
            caption="../report/analysis.rst",
            category=category,
            labels={"analysis": "{analysis}"},
        ),
    }


def perturbed_tables(wildcards):
    return [perturbed_table(name) for name in study.analyses[wildcards.analysis].perturbed]


def permutation_tables(wildcards):
    shards = range(len(study.analyses[wildcards.analysis].permutations_of()))
    return [result(f"analyses/{wildcards.analysis}/permutations/{k}.tsv") for k in shards]


def fidelity_model(wildcards):
    return study.analyses[wildcards.analysis].synthesis


def fidelity_source(wildcards):
    return views([study.synthesis[fidelity_model(wildcards)].source.view], study.shards)


def fidelity_further(wildcards):
    return views([extra.view for extra in study.synthesis[fidelity_model(wildcards)].source.also], study.shards)


def fidelity_target(wildcards):
    return views([study.synthesis[fidelity_model(wildcards)].target.view], study.shards)


def fidelity_masks(wildcards):
    source = study.analyses[wildcards.analysis].masks
    return masks(source, study.shards) if source else []


def fidelity_synthetic(wildcards):
    return views([study.fidelity_view(study.analyses[wildcards.analysis])], study.shards)


def fidelity_masks_after(wildcards):
    source = study.analyses[wildcards.analysis].masks_after
    return masks(source, study.shards) if source else []


def profile_splits(wildcards):
    """Splits of the models behind a description of a view: only their unseen patients are described."""
    users = study.users_of_profile(wildcards.profile, wildcards.view)
    models = [model for name in users for model in study.judged(name)]
    return [split_table(name) for name in dict.fromkeys(study.synthesis[model].split for model in models)]


def compared_profiles(wildcards):
    profile = study.analyses[wildcards.analysis].profile
    return [
        result(f"profiles/{profile}/{view}/{MAIN}/{shard}.tsv")
        for view in study.profiled(wildcards.analysis)
        for shard in study.shards
    ]


def compared_splits(wildcards):
    """One split table for each model, in order."""
    return [split_table(study.synthesis[model].split) for model in study.judged(wildcards.analysis)]


def compared_features(wildcards):
    return [feature_table(name) for name in plan.compared_sets(study, wildcards.analysis)]


def compared_ledgers(wildcards):
    """Ledgers of the models behind the compared views and feature sets."""
    models = [m for view in study.profiled(wildcards.analysis) for m in study.models_of_view(view)]
    if study.analyses[wildcards.analysis].kind == "synthesis-comparison":
        for name in plan.compared_sets(study, wildcards.analysis):
            models += [*study.models_of_features(name), *study.fitted_sets(name)]
    return ledgers(dict.fromkeys(models))


def summarised(file):
    """A file of each analysis that a summary joins."""
    return lambda wildcards: [result(f"analyses/{name}/{file}") for name in study.summarised(wildcards.analysis)]


def shifted_split(wildcards):
    return split_table(study.synthesis[study.analyses[wildcards.analysis].synthesis].split)


def shifted_ledgers(wildcards):
    analysis = study.analyses[wildcards.analysis]
    models = [m for name in (analysis.before, analysis.after) for m in study.models_of_features(name)]
    fitted = [m for name in (analysis.before, analysis.after) for m in study.fitted_sets(name)]
    return ledgers(dict.fromkeys([*models, *fitted]))


def exported_weights(wildcards):
    return result(f"models/{study.views[wildcards.view].synthesis}/{wildcards.fold}/weights.safetensors")


def exported(_):
    """Manifests of all exports; those with original identities lie in the private folder."""
    place = {"original": study.private_root, "pseudonym": study.root}
    dicom = [f"{place[export.identity]}/dicom/{export.view}/{MAIN}" for export in study.dicom_exports]
    nrrd = [result(f"nrrd/{name}") for name, export in study.exports.items() if isinstance(export, NrrdExport)]
    return [f"{folder}/{shard}.tsv" for folder in (*dicom, *nrrd) for shard in study.shards]


def exported_images(wildcards):
    """Manifest of the images that an NRRD export writes."""
    view = study.exports[wildcards.export].view
    return result(f"volumes/{wildcards.shard}.tsv") if view == "scan" else view_manifest(view, MAIN, wildcards.shard)


def exported_masks(wildcards):
    source = study.exports[wildcards.export].masks
    return masks(source, [wildcards.shard]) if source else []


def judged_model(wildcards):
    return study.analyses[wildcards.analysis].segmentation


def judged_masks(wildcards):
    return masks(judged_model(wildcards), study.shards)


def reference_masks(wildcards):
    return masks(study.analyses[wildcards.analysis].reference, study.shards)


def mask_ledgers(wildcards):
    return ledgers(study.models_of_masks(judged_model(wildcards)))


def mask_split(wildcards):
    return split_table(study.segmentation[judged_model(wildcards)].split)


def agreement_masks(wildcards):
    """Mask manifests of the extracted sets, for volumes."""
    sets = [study.features[name] for name in features_of(study.analyses[wildcards.analysis])]
    sources = dict.fromkeys(source for s in sets if isinstance(s, RadiomicsSet) for source in s.sources)
    return [path for source in sources for path in masks(source, study.shards)]


def harmonisation_parameters(wildcards):
    """What was fitted, where the second set of a harmonisation analysis was harmonised here."""
    after = study.analyses[wildcards.analysis].features[1]
    harmonised = isinstance(study.features[after], HarmonisedSet)
    return [result(f"models/{after}/main/parameters.json")] if harmonised else []


def known_volumes(wildcards):
    path = study.analyses[wildcards.analysis].volumes
    return [path] if path else []


def survey_answers(wildcards):
    """Answers of the reader studies that an analysis evaluates, in order, or the user's table."""
    analysis = study.analyses[wildcards.analysis]
    return [analysis.table] if analysis.table else [result(f"readers/{n}/answers.parquet") for n in analysis.readers]


def compared_masks(wildcards):
    return [path for source in study.analyses[wildcards.analysis].sources for path in masks(source, study.shards)]


def compared_mask_ledgers(wildcards):
    models = [m for source in study.analyses[wildcards.analysis].sources for m in study.models_of_masks(source)]
    return ledgers(dict.fromkeys(models))


# apply


def applied_models(wildcards):
    """Files of fitted chains: one, or the members of an ensemble."""
    own = study.apply[wildcards.application]
    if own.file:
        return [own.model]
    analysis, arm, *model = own.model.split("/")
    if not model:  # of a survival analysis
        return [result(f"analyses/{analysis}/models/{arm}.skops")]
    (model,) = model
    members = study.analyses[analysis].ensembles[model] if arm == "ensemble" else [f"{arm}/{model}"]
    files = ["--".join(member.split("/")) for member in members]
    return [result(f"analyses/{analysis}/models/{file}.skops") for file in files]


def applied_record(wildcards):
    """Ledger of the analysis that fitted the models; its folder holds their files, too."""
    own = study.apply[wildcards.application]
    if not own.file:
        return result(f"analyses/{own.model.split('/')[0]}/ledger.json")
    folder = Path(own.model).parent
    beside, above = folder / "ledger.json", folder.parent / "ledger.json"
    return str(above if above.exists() and not beside.exists() else beside)


def applied_features(wildcards):
    name = study.apply[wildcards.application].features
    return [feature_table(name)] if name else []


def applied_ledgers(wildcards):
    name = study.apply[wildcards.application].features
    if name is None:
        return []
    return ledgers(dict.fromkeys([*study.models_of_features(name), *study.fitted_sets(name)]))


# read


def reader_arm(arm):
    return lambda wildcards: views([getattr(study.readers[wildcards.reader].views, arm).view], study.shards)


def reader_ledgers(wildcards):
    arms = study.readers[wildcards.reader].views
    models = [*study.models_of_view(arms.acquired.view), *study.models_of_view(arms.synthetic.view)]
    return ledgers(dict.fromkeys(models))


def answer_files(wildcards):
    """Answers that are there now; a new file re-runs the ingestion."""
    folder = study.readers[wildcards.reader].answers
    return sorted(str(path) for path in Path(folder).glob("*.json")) if folder else []
