"""What a configuration may say, taken from the code that reads it; that of ``jaxff train``."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from jaxff.training.losses import Term
from jaxff.training.models import model_builders
from jaxff.training.optimizers import OPTIMIZERS, SCHEDULES
from jaxff.training.options import documented
from jaxff.training.sections import Data, Part, Source, Training

__all__ = ["manual", "sections", "template"]

_WIDTH = 96
_EXAMPLES: dict[str, dict[str, Any]] = {
    "data": {"path": "data.npz", "train": 1000, "valid": 200, "test": 1000, "batch_size": 10},
    "model": {"name": "schnet", "cutoff": 5.0},
    "loss": {"energy": 0.01, "forces": 0.99},
    "optimizer": {"name": "adam"},
    "learning_rate": {"name": "cosine_decay", "init_value": 1e-3, "decay_steps": 50_000},
    "training": {"steps": 50_000, "seed": 0, "ema": 0.999, "clip": 10.0, "validate_every": 1000},
}
"""What the template says beside defaults: a run that is worth making."""


def manual() -> str:
    """Every option with its meaning."""
    shared = [each.name for each in fields(Source)]
    parts = [
        _section("[data]", _options(Data)),
        _section("[data] train, valid, test", _options(Part, leave=shared)),
        *(_model(name, build) for name, build in model_builders().items()),
        "[loss]\n"
        + _filled("Weights by label, such as energy = 0.01; a label with _per_atom is divided by "
                  "the number of atoms. Instead of a weight a table of:")
        + "\n" + _listed(_options(Term, leave=("label", "per_atom"))),
        _names("[optimizer]", OPTIMIZERS, "Name, and options as optax documents them"),
        _names("[learning_rate]", SCHEDULES, "A number, or a schedule of optax: name and options"),
        _section("[training]", _options(Training)),
        _section("[training.plateau]", _options(_plateau())),
    ]  # fmt: skip
    return "\n\n".join(parts)


def sections(kinds: Mapping[str, Any], leave: Iterable[str] = ()) -> str:
    """Options of sections with their meaning.

    Args:
        kinds: Dataclass of each section by its heading.
        leave: Options to leave out.
    """
    return "\n\n".join(_section(head, _options(kind, leave)) for head, kind in kinds.items())


def template() -> str:
    """A complete configuration; what is not said has its default, which stands in a comment."""
    network = model_builders()[_EXAMPLES["model"]["name"]]
    known = {
        "data": _options(Data),
        "model": _arguments(network),
        "loss": [],
        "optimizer": [],
        "learning_rate": [],
        "training": _options(Training),
    }
    lines = ["# For jaxff train CONFIG.toml; jaxff train --options tells all that may stand here."]
    for section, example in _EXAMPLES.items():
        lines += ["", f"[{section}]"]
        texts = {name: text for name, _, _, text in known[section]}
        for name, value in example.items():
            comment = f"  # {texts[name]}" if texts.get(name) else ""
            lines += _commented(f"{name} = {_toml(value)}", comment)
        for name, _, default, text in known[section]:
            if name not in example:
                shown = "..." if default in (None, MISSING) else _toml(default)
                lines += _commented(f"# {name} = {shown}", f"  # {text}")
    return "\n".join(lines)


def _commented(line: str, comment: str) -> list[str]:
    """A line with its comment behind it, or above it where that is too long."""
    if len(line) + len(comment) <= _WIDTH + 4:
        return [line + comment]
    text, mark = comment.strip("# "), "## "
    above = textwrap.wrap(text, _WIDTH, initial_indent=mark, subsequent_indent=mark)
    return [*above, line]


_Row = tuple[str, str, Any, str]
"""Name, type in words, default, meaning."""


def _options(kind: Any, leave: Iterable[str] = ()) -> list[_Row]:
    """Options of a dataclass, its own before those of its base."""
    rows = [(o.name, o.kind, o.default, _plain(o.text)) for o in documented(kind)]
    rows.sort(key=lambda row: row[0] not in kind.__annotations__)
    return [row for row in rows if row[0] not in leave]


def _plateau() -> Any:
    return next(each.table for each in documented(Training) if each.name == "plateau")


def _arguments(build: Callable[..., Any]) -> list[_Row]:
    """Arguments of a builder with what its docstring says of them."""
    texts = _argument_texts(build)
    return [
        (name, "", MISSING if p.default is p.empty else p.default, texts.get(name.strip("*"), ""))
        for name, p in inspect.signature(build).parameters.items()
        if p.kind is not p.VAR_KEYWORD
    ]


def _argument_texts(build: Callable[..., Any]) -> dict[str, str]:
    entries = inspect.cleandoc(build.__doc__ or "").partition("Args:\n")[2].split("\n\n")[0]
    found = re.findall(r"^    \**(\w+): (.*(?:\n        .*)*)", entries, re.MULTILINE)
    return {name: _plain(" ".join(text.split())) for name, text in found}


def _plain(text: str) -> str:
    """Without the marks of docstrings."""
    return re.sub(r":\w+:`~?([^`]*)`", r"\1", text).replace("``", "")


def _model(name: str, build: Callable[..., Any]) -> str:
    first = inspect.cleandoc(build.__doc__ or "").partition("\n")[0]
    return f'[model]\nname = "{name}": {first}\n' + _listed(_arguments(build))


def _names(head: str, names: Iterable[str], text: str) -> str:
    return f"{head}\n" + _filled(f"{text}: {', '.join(names)}.")


def _section(head: str, rows: list[_Row]) -> str:
    return f"{head}\n{_listed(rows)}"


def _listed(rows: list[_Row]) -> str:
    lines = []
    for name, kind, default, text in rows:
        about = ", ".join(p for p in (kind, _default(default)) if p)
        lines.append(f"  {name}" + (f"  ({about})" if about else ""))
        lines += [_filled(text, 6)] if text else []
    return "\n".join(lines)


def _default(value: Any) -> str:
    if value is MISSING:
        return "needed"
    return "" if value in (None, {}, ()) else f"default {_toml(value)}"


def _filled(text: str, indent: int = 2) -> str:
    margin = " " * indent
    return textwrap.fill(text, _WIDTH, initial_indent=margin, subsequent_indent=margin)


def _toml(value: Any) -> str:
    """A value as TOML spells it."""
    if isinstance(value, type) or hasattr(value, "dtype"):
        return json.dumps(getattr(value, "__name__", str(value)))
    if isinstance(value, dict):
        inner = ", ".join(f"{k} = {_toml(v)}" for k, v in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return json.dumps(value if isinstance(value, str | bool | int | float) else str(value))
