"""The type checker that conftest.py applies to the library."""

import typing

from beartype import BeartypeConf, beartype

# An int may stand for a float.
_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function):
    """beartype, which also looks whether an argument has the methods that its protocol names."""
    for hint in getattr(function, "__annotations__", {}).values():
        for part in (hint, *typing.get_args(hint)):
            if getattr(part, "_is_protocol", False):
                typing.runtime_checkable(part)
    return _beartype(function)
