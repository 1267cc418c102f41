"""Tables of a configuration as dataclasses: types checked, unknown names refused, documented."""

import ast
import inspect
import os
import textwrap
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, Union

from jaxff.training.optimizers import nearest

__all__ = ["Option", "alternatives", "check_names", "documented", "read_toml", "record", "typed"]

_Made = TypeVar("_Made")


class Option(NamedTuple):
    """One option of a table.

    Attributes:
        name: Its name.
        kind: What its value may be, in words.
        default: Its default; ``dataclasses.MISSING`` if it must be given.
        text: What it means.
        table: The dataclass of its value, where that is a table with options of its own.
    """

    name: str
    kind: str
    default: Any
    text: str
    table: type | None


def read_toml(path: str | os.PathLike, build: Callable[[dict[str, Any], Path], _Made]) -> _Made:
    """What is made of the content of a configuration; all errors name the file.

    Args:
        path: A TOML file.
        build: Makes it of the content and the folder of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no TOML, or ``build`` refuses it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a TOML file: {error}") from error
    try:
        return build(content, path.resolve().parent)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def record(kind: Any, content: Any, where: str) -> Any:
    """A dataclass of a table.

    Args:
        kind: The dataclass; its annotations say the types.
        content: What stands in the file.
        where: What messages call the table.

    Raises:
        ValueError: If a name is unknown (the message names the nearest), an option is missing, or a
            value has the wrong type.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} must be a table, got {content!r}")
    hints = typing.get_type_hints(kind)
    check_names(f"{where}: option", content, [each.name for each in fields(kind)])
    needed = [e for e in fields(kind) if e.default is MISSING and e.default_factory is MISSING]
    missing = [each.name for each in needed if each.name not in content]
    if missing:
        raise ValueError(f"{where} needs {', '.join(missing)}")
    return kind(**{k: typed(hints[k], v, f"{where} {k}") for k, v in content.items()})


def check_names(what: str, content: Mapping[str, Any], known: list[str]) -> None:
    """Refuse unknown names.

    Raises:
        ValueError: With the nearest known name, and all of them.
    """
    for name in content:
        if name not in known:
            raise ValueError(
                f"unknown {what} {name!r}{nearest(name, known)}; known: {', '.join(known)}"
            )


def documented(kind: Any) -> list[Option]:
    """All options of a dataclass, with the sentences that stand below them in its source."""
    hints, texts = typing.get_type_hints(kind), _texts(kind)
    found = []
    for each in fields(kind):
        default = each.default
        if default is MISSING and each.default_factory is not MISSING:
            default = each.default_factory()
        choices = alternatives(hints[each.name])
        tables = [choice for choice in choices if is_dataclass(choice)]
        table = tables[0] if tables else None
        words = _words(choices)
        found.append(Option(each.name, words, default, texts[each.name], table))  # type: ignore[arg-type]
    return found


def _texts(kind: Any) -> dict[str, str]:
    """Documentation of the attributes, those of base classes included."""
    texts = {}
    for each in reversed(kind.__mro__[:-1]):
        entries = inspect.cleandoc(each.__doc__ or "").partition("Attributes:\n")[2]
        entries = textwrap.dedent(entries.split("\n\n")[0])
        last = ""
        for entry in entries.splitlines():
            name, colon, text = entry.partition(": ")
            if colon and not name.startswith(" "):
                texts[name] = text
                last = name
            elif last:
                texts[last] += " " + entry.strip()
        body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0].body  # type: ignore[attr-defined]
        for node, after in pairwise(body):
            if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr):
                value = ast.literal_eval(after.value)
                texts[node.target.id] = " ".join(value.split())  # type: ignore[attr-defined]
    return texts


def typed(hint: Any, value: Any, where: str) -> Any:
    """The value in the type of the option.

    Raises:
        ValueError: If it is of another type.
    """
    choices = alternatives(hint)
    for choice in choices:
        origin = typing.get_origin(choice) or choice
        if is_dataclass(choice) and isinstance(value, dict):
            return record(choice, value, where)
        if origin is tuple and isinstance(value, list) and _listed(choice, value):
            return _frozen(value)
        if origin is dict and isinstance(value, dict):
            return value
        if _is_plain(origin, value):
            return origin(value)
    raise ValueError(f"{where} must be {_words(choices)}, got {value!r}")


def _is_plain(kind: Any, value: Any) -> bool:
    """Whether a value is a number, text or truth value of this kind; integers are numbers too."""
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return kind in (int, str, bool) and type(value) is kind


def _listed(kind: Any, value: Any) -> bool:
    """Whether a value is a list, or list of lists, of what the type says."""
    if typing.get_origin(kind) is not tuple:
        return _is_plain(kind, value)
    item = typing.get_args(kind)[0]
    return isinstance(value, list) and all(_listed(item, each) for each in value)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The types of a union, less that of ``None``; of another type the type alone."""
    union = typing.get_origin(hint) in (Union, types.UnionType)
    choices = typing.get_args(hint) if union else (hint,)
    return tuple(choice for choice in choices if choice is not type(None))


def _words(choices: tuple[Any, ...]) -> str:
    words = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
    plurals = {int: "integers", float: "numbers", str: "texts"}

    def plural(kind: Any) -> str:
        inner = typing.get_args(kind)
        return f"lists of {plural(inner[0])}" if inner else plurals[kind]

    def word(kind: Any) -> str:
        if typing.get_origin(kind) is tuple:
            return "a list of " + plural(typing.get_args(kind)[0])
        return words.get(kind, "a table")

    return " or ".join(word(choice) for choice in choices)
