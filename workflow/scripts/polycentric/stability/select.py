"""A feature set reduced to its stable features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import ledger as ledgers
from .. import tables
from ..errors import UserError
from ..feature_names import columns
from ..jobs import SILENT, Log
from ..tables.schemas import FEATURES
from ..tables.stability import STABLE


def select(
    set_name: str,
    *,
    features: Path,
    stable: Path,
    analysis_ledger: Path,
    output: Path,
    ledger: Path,
    upstream: Sequence[Path] = (),
    settings_json: str = "",
    code: str = "",
    log: Log = SILENT,
) -> None:
    """Write a feature set with the stable features only, and a ledger of the patients who decided.

    `stable` and `analysis_ledger` are what the stability analysis wrote, `upstream` the ledgers behind `features`.

    Raises
    ------
    UserError
        if no feature of the set is stable.
    """
    frame = tables.read(features, FEATURES)
    listed = tables.read(stable, STABLE)
    names = columns(frame)
    wanted = set(listed.loc[listed["stable"].astype(bool), "feature"])
    dropped = [name for name in names if name not in wanted]
    if len(dropped) == len(names):
        judged = len(set(names) & set(listed["feature"]))
        raise UserError(
            f"features: {set_name}: none of the {len(names)} features is stable ({judged} of them were judged). Lower "
            f"the limits (`above`), or judge `bound: value` instead of the lower bound of the interval."
        )
    result = frame.drop(columns=dropped).assign(set=set_name)
    tables.write(result, output, FEATURES)
    behind = ledgers.read(analysis_ledger)
    ledgers.write(
        ledger,
        name=set_name,
        stage="extract",
        split=behind["split"],
        seen=behind["seen"],
        upstream=upstream,
        settings=settings_json,
        code=code,
    )
    log.event("selected", features=len(names) - len(dropped), dropped=len(dropped))
