"""Conditions on the rows of a table, such as ``age_years >= 18 and centre in ('north', 'south')``."""

from __future__ import annotations

import ast
import operator
from typing import Any

import pandas as pd

from .conditions import parse
from .errors import UserError

_COMPARE = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def holds(expression: str, frame: pd.DataFrame, *, where: str) -> pd.Series:
    """Boolean Series: for which rows the expression holds; a missing value makes a comparison false.

    Raises
    ------
    UserError
        for an unknown column or anything that is no condition (`conditions`).
    """
    try:
        return _condition(parse(expression), frame)
    except (ValueError, TypeError, KeyError) as error:
        reason = f"there is no column {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{where}: the condition {expression!r} cannot be evaluated: {reason}. Write comparisons of columns, such "
            f"as \"age_years >= 18 and centre in ('north', 'south')\"; columns: {', '.join(map(str, frame.columns))}."
        ) from None


def _condition(node: ast.expr, frame: pd.DataFrame) -> pd.Series:
    if isinstance(node, ast.BoolOp):
        parts = [_condition(value, frame) for value in node.values]
        result = parts[0]
        for part in parts[1:]:
            result = result & part if isinstance(node.op, ast.And) else result | part
        return result
    if isinstance(node, ast.UnaryOp):
        return ~_condition(node.operand, frame)
    if isinstance(node, ast.Compare):
        left, result = _value(node.left, frame), pd.Series(True, index=frame.index)
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            right = _value(comparator, frame)
            result &= _compare(op, left, right)
            left = right
        return result
    column = _value(node, frame)
    if pd.api.types.is_bool_dtype(column):
        return column.fillna(False).astype(bool)
    raise TypeError(f"{ast.unparse(node)!r} alone is not a condition")


def _compare(op: ast.cmpop, left: Any, right: Any) -> pd.Series:
    if isinstance(op, ast.In | ast.NotIn):
        inside = left.isin(right)
        return (inside if isinstance(op, ast.In) else ~inside & left.notna()).astype(bool)
    result = _COMPARE[type(op)](left, right)
    for side in (left, right):  # NaN != 1 is true in pandas: a missing value satisfies nothing here
        if isinstance(side, pd.Series):
            result = result & side.notna()
    return result.fillna(False).astype(bool)


def _value(node: ast.expr, frame: pd.DataFrame) -> Any:
    if isinstance(node, ast.Name):
        return frame[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(element, frame) for element in node.elts]
    return ast.literal_eval(node)
