"""A user's own step."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from ...config.steps import Custom
from ...errors import UserError
from ...volumes import Volume
from ..context import Context


def custom(step: Custom, volume: Volume, context: Context) -> Volume:
    """Call the class with the volume; what it raises fails the scan, and its grid is what it returns."""
    spec = importlib.util.spec_from_file_location(Path(step.file).stem, step.file)
    if spec is None or spec.loader is None:
        raise UserError(f"steps: uses: {step.uses!r} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic looks a class's module up there
    spec.loader.exec_module(module)
    result = getattr(module, step.uses.rpartition(":")[2]).model_validate(step.settings)(volume)
    if not isinstance(result, Volume):
        raise TypeError(f"{step.uses} returned {type(result).__name__}, not a Volume")
    return result
