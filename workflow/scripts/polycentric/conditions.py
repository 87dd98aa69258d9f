"""The language of conditions (`where:`) and its check against columns that are known. Needs no pandas.

Names are columns; comparisons (==, !=, <, <=, >, >=, in, not in) with constants or columns are combined by and, or,
not. Nothing else is a condition, so that one cannot run code.
"""

from __future__ import annotations

import ast
import difflib
import itertools
import keyword
import unicodedata
from collections.abc import Iterator, Mapping

from .columns import Column

ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
COMPARISONS = (ast.Eq, ast.NotEq, *ORDER)


def parse(expression: str) -> ast.expr:
    """The tree of a condition.

    Raises
    ------
    ValueError
        for anything that is no condition; says what.
    """
    try:
        tree = ast.parse(expression, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"it cannot be read: {error.msg}") from None
    _condition(tree)
    return tree


def problems(expression: str, columns: Mapping[str, Column]) -> Iterator[str]:
    """What is wrong with a condition on a table with these columns: unknown names, values that a column never has."""
    try:
        tree = parse(expression)
    except ValueError as error:
        hint = _unspeakable(expression, columns) or "Write comparisons such as contrast == 'yes'."
        yield f"{expression!r} is not a condition: {error}. {hint}"
        return
    for name in dict.fromkeys(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)):
        if name not in columns:
            near = difflib.get_close_matches(name, columns, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"write one of: {', '.join(columns)}."
            hint = _unspeakable(expression, columns) or hint
            yield f"{expression!r}: there is no column {name!r}; {hint}"
    for name in _alone(tree):
        if name in columns and columns[name].kind != "flag":
            yield f"{expression!r}: {name} alone is no condition; compare it with something."
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = itertools.pairwise([node.left, *node.comparators])
            for op, (left, right) in zip(node.ops, sides, strict=True):
                for name, other in ((left, right), (right, left)):
                    if isinstance(name, ast.Name) and name.id in columns:
                        column, constants = columns[name.id], _constants(other)
                        if column.kind == "text" and isinstance(op, ORDER):
                            yield f"{expression!r}: {name.id} holds words without an order; write {name.id} in (...)."
                            break
                        yield from _never(expression, name.id, column, constants)


def _unspeakable(expression: str, columns: Mapping[str, Column]) -> str:
    """What to do about a column of an expression whose name Python cannot read, or reads as another one."""
    for name in columns:
        if name in expression and (keyword.iskeyword(name) or unicodedata.normalize("NFKC", name) != name
                                   or not name.isidentifier()):  # fmt: skip
            return (
                f"A condition cannot name a column {name!r}; declare it under another name, as in clinical.columns: "
                f"{{other_name: {{type: ..., column: {name!r}}}}}."
            )
    return ""


def _alone(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _alone(value)
    elif isinstance(node, ast.UnaryOp):
        yield from _alone(node.operand)


def _never(expression: str, name: str, column: Column, constants: list[object]) -> Iterator[str]:
    for value in constants:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value == "" and column.kind == "text" and not column.required:
            continue  # asks for a missing value
        if column.values and value not in column.values:
            yield f"{expression!r}: {name} is never {value!r}; write one of: {', '.join(map(repr, column.values))}."
        elif column.kind == "text" and not isinstance(value, str):
            yield f"{expression!r}: {name} holds words; put {value!r} in quotes."
        elif column.kind in ("integer", "number") and not number:
            yield f"{expression!r}: {name} holds numbers; {value!r} is none."
        elif column.kind == "flag" and not isinstance(value, bool):
            yield f"{expression!r}: {name} is true or false; write {name} or not {name}."


def _constants(node: ast.expr) -> list[object]:
    if isinstance(node, ast.Constant):
        return [node.value]
    if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
        return [node.operand.value]
    return [c for part in node.elts for c in _constants(part)] if isinstance(node, ast.List | ast.Tuple) else []


def _condition(node: ast.expr) -> None:
    if isinstance(node, ast.BoolOp):
        for value in node.values:
            _condition(value)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _condition(node.operand)
    elif isinstance(node, ast.Compare):
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            _comparison(op, left, right)
            left = right
    elif not isinstance(node, ast.Name):
        raise ValueError(f"{ast.unparse(node)!r} is not a comparison")


def _comparison(op: ast.cmpop, left: ast.expr, right: ast.expr) -> None:
    if isinstance(op, ast.In | ast.NotIn):
        if not isinstance(left, ast.Name) or not isinstance(right, ast.List | ast.Tuple):
            raise ValueError("`in` needs a column on its left and a list of constants on its right")
        for element in right.elts:
            _operand(element, constant=True)
        return
    if not isinstance(op, COMPARISONS):
        raise ValueError("only ==, !=, <, <=, >, >=, in and not in compare")
    _operand(left)
    _operand(right)
    if not isinstance(left, ast.Name) and not isinstance(right, ast.Name):
        raise ValueError(f"{ast.unparse(left)} and {ast.unparse(right)}: a comparison needs a column")


def _operand(node: ast.expr, *, constant: bool = False) -> None:
    plain = isinstance(node, ast.Constant) and isinstance(node.value, str | int | float)
    negative = (
        isinstance(node, ast.UnaryOp)
        and isinstance(node.op, ast.USub)
        and isinstance(node.operand, ast.Constant)
        and isinstance(node.operand.value, int | float)
    )
    if not (plain or negative or (isinstance(node, ast.Name) and not constant)):
        raise ValueError(f"{ast.unparse(node)!r} is neither a column nor a constant")
