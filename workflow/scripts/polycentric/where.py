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

    An empty text is a missing value, unless the expression compares with ''. Words such as '1' find the numbers and
    truth values as which a table gives them back.

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
    left, right = _as_read(left, right), _as_read(right, left)
    if isinstance(op, ast.In | ast.NotIn):
        inside = left.isin([value for value in right if not pd.isna(value)]) & _there(left, right)
        return (inside if isinstance(op, ast.In) else ~inside & _there(left, right)).astype(bool)
    result = _COMPARE[type(op)](left, right)
    for side, other in ((left, right), (right, left)):  # NaN != 1 is true in pandas: nothing is satisfied here
        if isinstance(side, pd.Series):
            result = result & _there(side, other)
    return result.fillna(False).astype(bool)


def _there(column: pd.Series, other: Any) -> pd.Series:
    """Where a column has a value."""
    asked = "" in other if isinstance(other, list) else isinstance(other, str) and other == ""
    return column.notna() if asked else column.notna() & column.ne("").fillna(False)


def _as_read(value: Any, column: Any) -> Any:
    """Words as what a column of such words is when it was read: further columns of a table have no declared type."""
    if isinstance(value, list):
        return [_as_read(one, column) for one in value]
    if not isinstance(value, str) or not isinstance(column, pd.Series):
        return value
    if pd.api.types.infer_dtype(column, skipna=True) == "boolean":
        return {"true": True, "false": False}.get(value.lower(), float("nan"))
    return pd.to_numeric(value, errors="coerce") if pd.api.types.is_numeric_dtype(column) else value


def _value(node: ast.expr, frame: pd.DataFrame) -> Any:
    if isinstance(node, ast.Name):
        return frame[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(element, frame) for element in node.elts]
    return ast.literal_eval(node)
