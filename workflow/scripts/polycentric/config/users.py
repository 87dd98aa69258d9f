"""Which jobs read the images of which views: images that do not stay are removed after the last of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .features import RadiomicsSet
from .image_analyses import FidelityAnalysis
from .study import Study
from .synthesis_analyses import SynthesisProbe

MAIN = "main"


@dataclass(frozen=True)
class User:
    """Jobs of a rule that read images of views.

    `key` names them in paths; `over` says whether such a job reads its own shard or several; `output`, relative to the
    results, is there when it has ended (`{shard}` stands for its shard).
    """

    rule: str
    names: tuple[str, ...]
    views: tuple[str, ...]
    over: Literal["own", "development", "all"]
    output: str

    @property
    def key(self) -> str:
        return "--".join((self.rule, *self.names))


def users(study: Study) -> list[User]:
    """All jobs of a study that read images of views, without the exports, which need views that stay."""
    return list(_users(study))


def _users(study: Study) -> Iterator[User]:
    for name, view in study.views.items():
        made = f"views/{name}/{MAIN}/{{shard}}.tsv"
        if view.synthesis:
            also = [extra.view for extra in study.synthesis[view.synthesis].source.also]
            yield _user("synthesize", (name,), [view.from_, *also], "own", made)
            continue
        read = [view.from_, view.onto.view if view.onto else None, view.minus]
        yield _user("prepare", (name,), read, "own", made)
        if view.fit:
            yield _user("fit_view", (name,), read, "development", f"models/{name}/{MAIN}/ledger.json")
    for name, model in study.synthesis.items():
        read = [] if model.import_ else model.views
        yield _user("train_synthesis", (name,), read, "development", f"models/{name}/{MAIN}/ledger.json")
    for name, net in study.segmentation.items():
        read = [] if net.import_ else [net.view]
        yield _user("train_segmentation", (name,), read, "development", f"models/{name}/{MAIN}/ledger.json")
        yield _user("segment", (name,), [net.view], "own", f"masks/{name}/{MAIN}/{{shard}}.tsv")
    for name, features in study.features.items():
        if isinstance(features, RadiomicsSet):
            yield _user("extract", (name,), [features.view], "own", f"features/{name}/{{shard}}.parquet")
    for name, analysis in study.analyses.items():
        if isinstance(analysis, FidelityAnalysis | SynthesisProbe):
            model = study.synthesis[analysis.synthesis]
            fidelity = isinstance(analysis, FidelityAnalysis)
            # a probe makes its synthetic images itself
            read = [*model.views, study.fidelity_view(analysis)] if fidelity else model.views
            rule = "fidelity" if fidelity else "probe_synthesis"
            yield _user(rule, (name,), read, "all", f"analyses/{name}/metrics.json")
    for profile in study.profiles:
        for view in study.views:
            if study.users_of_profile(profile, view):
                output = f"profiles/{profile}/{view}/{MAIN}/{{shard}}.tsv"
                yield _user("profile_images", (profile, view), [view], "own", output)
    for name, reader in study.readers.items():
        arms = [reader.views.acquired.view, reader.views.synthetic.view]
        yield _user("export_readers", (name,), arms, "all", f"readers/{name}/app.tsv")


def _user(
    rule: str, names: tuple[str, ...], read: list[str | None], over: Literal["own", "development", "all"], output: str
) -> User:
    views = tuple(dict.fromkeys(view for view in read if view is not None and view != "scan"))
    return User(rule, names, views, over, output)


def passing(study: Study) -> list[str]:
    """Views whose images do not stay."""
    return [name for name, view in study.views.items() if not view.keep]


def needed_for(study: Study, view: str, shard: str) -> list[str]:
    """What must be there, relative to the results, before the images of a view in a shard can go.

    Whoever reads a view that is made from this one counts too, if that does not stay either: to make it again, this one
    is needed.
    """
    everyone = users(study)
    found: list[str] = []
    todo, seen = [view], set()
    while todo:
        own = todo.pop(0)
        seen.add(own)
        for user in everyone:
            if own not in user.views or (user.over == "development" and shard not in study.development_shards):
                continue
            found.append(user.output.format(shard=shard))
            made = user.names[0]
            if user.rule in ("prepare", "synthesize") and not study.views[made].keep and made not in seen | {*todo}:
                todo.append(made)
    return list(dict.fromkeys(found))
