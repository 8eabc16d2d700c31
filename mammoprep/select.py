"""``--where``: an expression over the columns of samples.parquet, read and never executed."""

import ast
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

from mammoprep.core.errors import ConfigError
from mammoprep.core.plugins import suggest

Row = Mapping[str, Any]
Value = Callable[[Row], Any]
LONGEST = 2000
COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda value, many: value in many,
    ast.NotIn: lambda value, many: value not in many,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
ORDERED = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def predicate(text: str, columns: Collection[str]) -> Callable[[Row], bool]:
    """Return a test of rows, such as ``view == "CC" and labels.density in ["C", "D"]``.

    Columns, numbers, texts, lists, True, False and None; compared by ``== != < <= > >= in not in
    is``; joined by ``and or not``. An order with an unknown value (None) is False.

    Args:
        text: The expression.
        columns: The known columns.

    Raises:
        ConfigError: it is none, or names an unknown column.
    """
    try:
        tree = ast.parse(text[:LONGEST], mode="eval") if len(text) <= LONGEST else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if tree is None:
        raise ConfigError(
            f"--where {text[:80]!r} is no expression. Write it like "
            "view == 'CC' and labels.density in ['C', 'D']."
        )
    test = _value(tree.body, columns)
    return lambda row: bool(test(row))


def _value(node: ast.expr, columns: Collection[str]) -> Value:
    if isinstance(node, ast.Constant) and not isinstance(node.value, (bytes, complex)):
        constant = node.value
        return lambda _: constant
    if isinstance(node, ast.List | ast.Tuple):
        items = [_value(item, columns) for item in node.elts]
        return lambda row: [item(row) for item in items]
    if isinstance(node, ast.Name | ast.Attribute):
        name = _column(node, columns)
        return lambda row: row[name]
    if isinstance(node, ast.BoolOp):
        return _joined(node, columns)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _value(node.operand, columns)
        return lambda row: not inner(row)
    if isinstance(node, ast.Compare):
        return _compared(node, columns)
    raise ConfigError(f"--where cannot hold {ast.unparse(node)[:60]!r}.")


def _joined(node: ast.BoolOp, columns: Collection[str]) -> Value:
    parts = [_value(part, columns) for part in node.values]
    join = all if isinstance(node.op, ast.And) else any
    return lambda row: join(part(row) for part in parts)


def _compared(node: ast.Compare, columns: Collection[str]) -> Value:
    values = [_value(part, columns) for part in (node.left, *node.comparators)]

    def test(row: Row) -> bool:
        found = [value(row) for value in values]
        return all(
            _holds(how, left, right)
            for how, left, right in zip(node.ops, found, found[1:], strict=False)
        )

    return test


def _holds(how: ast.cmpop, left: Any, right: Any) -> bool:
    if isinstance(how, ORDERED) and (left is None or right is None):
        return False
    try:
        return bool(COMPARE[type(how)](left, right))
    except TypeError:
        raise ConfigError(
            f"--where compares {type(left).__name__} with {type(right).__name__}."
        ) from None


def _column(node: ast.expr, columns: Collection[str]) -> str:
    name = ast.unparse(node)
    if name not in columns:
        hint = suggest(name, sorted(columns))
        raise ConfigError(f"--where: there is no column {name[:60]!r}.{hint}")
    return name
