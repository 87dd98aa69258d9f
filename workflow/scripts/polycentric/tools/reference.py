"""Generate what the settings models say: defaults, JSON schema for editors, and config/README.md.

`python -m polycentric.tools.reference` writes them, `--check` fails with the names of files that drifted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ..columns import PATIENT_COLUMNS, SCAN_COLUMNS
from ..config.study import Study
from ..files import write_text

CONFIG = Path("config")
INTRODUCTION = """# Study files

A study is one YAML file. `config/config.yaml` is the toy study, run when no `--configfile` is given; the others lie in
`config/studies/`. Run one with `snakemake --cores 8 --configfile config/studies/lung1.yaml`. Give one file only: to
build on another study write `extends: other.yaml` (relative to the file); mappings merge, everything else replaces, and
`null` deletes a key.

All mistakes of a study file are listed at once, before any job starts, each with what to write instead. For checks and
completion while typing, put this line on top of a study file:

```yaml
# yaml-language-server: $schema=../schema.json
```

Names of views, splits, models, feature sets and analyses are letters, digits and single hyphens. Expressions (`where:`)
compare [columns](#columns-for-conditions) of `cohort/scans.tsv` and `cohort/patients.tsv` with each other or with
constants (`==`, `<`, `in`, joined by `and`, `or`, `not`), such as `contrast == 'yes'`. They cannot run code. A column
that there will not be, or a value that it never has, is refused before the first job.

This page, `schema.json` and `defaults.yaml` are generated from the settings models by
`python -m polycentric.tools.reference`; a test fails when they drift.
"""


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Settings models in a type, through unions, containers and annotations."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not None:
        for argument in get_args(annotation):
            yield from models(argument)


def sections(model: type[BaseModel], seen: set[type[BaseModel]] | None = None) -> Iterator[type[BaseModel]]:
    """The model and all settings models below it, each once, in the order of their keys."""
    seen = set() if seen is None else seen
    if model in seen:
        return
    seen.add(model)
    yield model
    for field in model.model_fields.values():
        for other in models(field.annotation):
            yield from sections(other, seen)


def shown_type(schema: dict[str, Any]) -> str:
    """A JSON schema as a few words."""
    if "$ref" in schema:
        return f"[{schema['$ref'].rpartition('/')[2]}](#{schema['$ref'].rpartition('/')[2].lower()})"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{v}`" for v in schema["enum"])
    options = schema.get("anyOf", schema.get("oneOf"))
    if options:
        return " or ".join(dict.fromkeys(shown_type(o) for o in options))
    match schema.get("type"):
        case "array" if "prefixItems" in schema:
            return f"list of {len(schema['prefixItems'])}: {shown_type(schema['prefixItems'][0])}"
        case "array":
            return f"list of {shown_type(schema.get('items', {}))}"
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return f"names with {shown_type(schema['additionalProperties'])}"
        case "object" if "patternProperties" in schema:
            return f"names with {shown_type(next(iter(schema['patternProperties'].values())))}"
        case "null":
            return "null"
        case "string" if "pattern" in schema:
            return "name"
        case str() as kind:
            bounds = [
                f"{sign} {schema[key]:g}"
                for key, sign in (
                    ("minimum", ">="),
                    ("exclusiveMinimum", ">"),
                    ("maximum", "<="),
                    ("exclusiveMaximum", "<"),
                )
                if key in schema
            ]
            return f"{kind} {', '.join(bounds)}".strip()
    return "any"


def shown_default(field: FieldInfo) -> str:
    if field.is_required():
        return "**needed**"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return ""
    if isinstance(value, BaseModel):
        return "its defaults"
    return f"`{json.dumps(plain(value), ensure_ascii=False)}`"


def plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple | set | frozenset) else value


def readme() -> str:
    schema = Study.model_json_schema(by_alias=True)
    definitions = {"Study": schema, **schema["$defs"]}
    lines = [INTRODUCTION]
    for model in sections(Study):
        own = definitions[model.__name__]
        lines.append(f"## {model.__name__}\n\n{first_paragraph(model)}\n")
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        for name, field in model.model_fields.items():
            key = field.alias or name
            kind = shown_type(own["properties"][key]).replace("|", "\\|")
            meaning = (field.description or "").replace("|", "\\|")
            lines.append(f"| `{key}` | {kind} | {shown_default(field)} | {meaning[:1].upper()}{meaning[1:]} |")
        lines.append("")
    return "\n".join([*lines, *condition_columns()])


def condition_columns() -> list[str]:
    """The columns that conditions may name, but for those that a study declares itself."""
    lines = [
        "## Columns for conditions",
        "",
        "Of scans and of patients, beside the columns of the clinical table that the study declares (which the patient",
        "table has by their names in the study file). Of a name that both have, conditions on scans take the scan's.",
        "",
        "| table | column | kind | meaning |",
        "|---|---|---|---|",
    ]
    for table, columns in (("scans", SCAN_COLUMNS), ("patients", PATIENT_COLUMNS)):
        for name, column in columns.items():
            kind = ", ".join(f"`{v}`" for v in column.values) or column.kind
            lines.append(f"| {table} | `{name}` | {kind} | {column.description[:1].upper()}{column.description[1:]} |")
    return [*lines, ""]


def first_paragraph(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").strip().split("\n\n")[0].split())


def defaults() -> str:
    """All top-level sections with a default, and the defaults of the entries of named sections."""
    record: dict[str, Any] = {}
    for name, field in Study.model_fields.items():
        if not field.is_required():
            record[field.alias or name] = plain(field.get_default(call_default_factory=True))
    head = "# Defaults of every section; generated from the settings models. Not read by the workflow.\n"
    return head + yaml.safe_dump(record, sort_keys=False, allow_unicode=True, width=120)


def generate() -> dict[Path, str]:
    schema = Study.model_json_schema(by_alias=True)
    schema["properties"]["extends"] = {"type": "string", "description": "Study file below this one."}
    return {
        CONFIG / "README.md": readme(),
        CONFIG / "schema.json": json.dumps(schema, indent=1, ensure_ascii=False) + "\n",
        CONFIG / "defaults.yaml": defaults(),
    }


def drifted() -> list[Path]:
    return [p for p, text in generate().items() if not p.is_file() or p.read_text(encoding="utf-8") != text]


def main(arguments: list[str]) -> int:
    if "--check" in arguments:
        wrong = drifted()
        for path in wrong:
            print(f"{path} is not what the settings models say; run: python -m polycentric.tools.reference")
        return 1 if wrong else 0
    for path, text in generate().items():
        write_text(path, text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
