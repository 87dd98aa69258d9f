"""Conditions on the rows of a table, such as ``age_years >= 18 and centre in ('north', 'south')``."""

from __future__ import annotations

import ast
import operator
from typing import Any

import pandas as pd

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

    Names are columns; comparisons (==, !=, <, <=, >, >=, in, not in) with constants or columns are combined by
    and, or, not. Nothing else is evaluated, so an expression cannot run code.

    Raises
    ------
    UserError
        for an unknown column or anything that is not such a condition.
    """
    try:
        tree = ast.parse(expression, mode="eval").body
        result = _condition(tree, frame)
    except (SyntaxError, TypeError, KeyError) as error:
        reason = f"there is no column {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{where}: the condition {expression!r} cannot be evaluated: {reason}. Write comparisons of columns, such "
            f"as \"age_years >= 18 and centre in ('north', 'south')\"; columns: {', '.join(map(str, frame.columns))}."
        ) from None
    return result


def _condition(node: ast.expr, frame: pd.DataFrame) -> pd.Series:
    if isinstance(node, ast.BoolOp):
        parts = [_condition(value, frame) for value in node.values]
        result = parts[0]
        for part in parts[1:]:
            result = result & part if isinstance(node.op, ast.And) else result | part
        return result
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ~_condition(node.operand, frame)
    if isinstance(node, ast.Compare):
        left, result = _value(node.left, frame), pd.Series(True, index=frame.index)
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            right = _value(comparator, frame)
            result &= _compare(op, left, right, frame)
            left = right
        return result
    if isinstance(node, ast.Name):
        column = _value(node, frame)
        if pd.api.types.is_bool_dtype(column):
            return column.fillna(False).astype(bool)
        raise TypeError(f"{node.id!r} alone is not a condition")
    raise TypeError(f"{ast.unparse(node)!r} is not a condition")


def _compare(op: ast.cmpop, left: Any, right: Any, frame: pd.DataFrame) -> pd.Series:
    if isinstance(op, ast.In | ast.NotIn):
        if not isinstance(left, pd.Series) or not isinstance(right, list):
            raise TypeError("`in` needs a column on its left and a list of constants on its right")
        inside = left.isin(right)
        return (inside if isinstance(op, ast.In) else ~inside & left.notna()).astype(bool)
    if type(op) not in _COMPARE:
        raise TypeError("only ==, !=, <, <=, >, >=, in and not in compare")
    result = _COMPARE[type(op)](left, right)
    if not isinstance(result, pd.Series):
        raise TypeError("a comparison needs a column")
    for side in (left, right):  # NaN != 1 is true in pandas: a missing value satisfies nothing here
        if isinstance(side, pd.Series):
            result = result & side.notna()
    return result.fillna(False).astype(bool)


def _value(node: ast.expr, frame: pd.DataFrame) -> Any:
    if isinstance(node, ast.Name):
        return frame[node.id]
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(element, frame) for element in node.elts]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        return -node.operand.value
    raise TypeError(f"{ast.unparse(node)!r} is neither a column nor a constant")
