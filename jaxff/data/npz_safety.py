"""Arrays of Python objects in ``.npz`` files, read as data.

Some sGDML files keep small dictionaries (errors of a model) in pickled object arrays. Unpickling
runs whatever code the file names, so it is not done here: the opcodes are listed by
:func:`pickletools.genops`, which only parses, and a small interpreter builds the plain values that
such files hold. Anything else is refused.
"""

from __future__ import annotations

import pickletools
import struct
from typing import Any

import numpy as np

_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_GLOBALS = {
    **{(module, "_reconstruct"): "reconstruct" for module in _MODULES},
    **{(module, "scalar"): "scalar" for module in _MODULES},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
}
_DTYPES = frozenset(("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"))
_MAX_DEPTH, _MAX_ITEMS = 16, 1_000_000
_MARK = object()


class _Name:
    """A global that the stream names; it is never looked up."""

    __slots__ = ("kind",)

    def __init__(self, kind: str):
        self.kind = kind


class _Built:
    """An array or a dtype of the stream, described by constructor arguments and state."""

    __slots__ = ("arguments", "kind", "state")

    def __init__(self, kind: str, arguments: tuple):
        self.kind, self.arguments, self.state = kind, arguments, None


class _Stream:
    """Stack and memo of one pickle; each opcode is a method or a constant push."""

    def __init__(self, data: bytes):
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.result: Any = None
        for opcode, argument, _ in pickletools.genops(data):
            self.step(opcode.name, argument)

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in ("PROTO", "FRAME"):
            return
        if name == "STOP":
            self.result = stack.pop()
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            stack.append(argument)
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": ()}[name])
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(self.pop(int(name[-1]))))
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[len(self.memo) if name == "MEMOIZE" else int(argument)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[int(argument)])
        elif name in _COLLECT:
            self.collect(name)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            names = argument.split(" ") if name == "GLOBAL" else self.pop(2)
            stack.append(_named(*names))
        elif name == "REDUCE":
            function, arguments = self.pop(2)
            stack.append(_apply(function, arguments))
        elif name == "BUILD":
            built, state = stack[-2], stack.pop()
            if not isinstance(built, _Built):
                raise ValueError("state for something that is not an array")
            built.state = state
        else:
            raise ValueError(f"opcode {name}")

    def pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("stack underflow")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def collect(self, name: str) -> None:
        """Opcodes that put items into a tuple, list or dict."""
        if name in ("SETITEM", "APPEND"):
            items = self.pop(2 if name == "SETITEM" else 1)
        else:
            marks = [i for i, item in enumerate(self.stack) if item is _MARK]
            items = self.pop(len(self.stack) - marks[-1])[1:]
        if name in ("TUPLE", "LIST"):
            self.stack.append(tuple(items) if name == "TUPLE" else items)
        elif name == "DICT":
            self.stack.append(dict(zip(items[::2], items[1::2], strict=True)))
        elif name in ("SETITEM", "SETITEMS"):
            _of(dict, self.stack[-1]).update(zip(items[::2], items[1::2], strict=True))
        else:
            _of(list, self.stack[-1]).extend(items)


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK}
_LITERALS = frozenset(
    [
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE"),
        *("BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
    ]
)
_COLLECT = frozenset(("TUPLE", "LIST", "DICT", "SETITEM", "SETITEMS", "APPEND", "APPENDS"))


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{kind.__name__} expected")
    return value


def _named(module: Any, name: Any) -> _Name:
    if (module, name) not in _GLOBALS:
        raise ValueError(f"it refers to {module}.{name}")
    return _Name(_GLOBALS[module, name])


def _apply(function: Any, arguments: Any) -> Any:
    kind = _of(_Name, function).kind
    arguments = _of(tuple, arguments)
    if kind == "reconstruct":
        return _Built("array", arguments)
    if kind == "dtype":
        return _Built("dtype", arguments)
    if kind == "encode" and len(arguments) == 2 and arguments[1] in ("latin1", "latin-1"):
        return _of(str, arguments[0]).encode("latin1")
    if kind == "scalar" and len(arguments) == 2:
        dtype = _dtype(arguments[0])
        if dtype is None or len(_of(bytes, arguments[1])) != dtype.itemsize:
            raise ValueError("scalar of an unexpected type")
        return np.frombuffer(arguments[1], dtype)[0]
    raise ValueError(f"call of {kind}")


def _dtype(built: Any) -> np.dtype | None:
    """The plain numeric or text dtype that is described; ``None`` stands for objects."""
    if not isinstance(built, _Built) or built.kind != "dtype":
        raise ValueError("dtype expected")
    code = _of(str, built.arguments[0])
    if code in ("O", "O8"):
        return None
    if code not in _DTYPES and not (code[:1] in "US" and code[1:].isdecimal() and len(code) < 8):
        raise ValueError(f"dtype {code!r}")
    order = _of(tuple, built.state)[1] if built.state is not None else "="
    if order not in ("<", ">", "|", "="):
        raise ValueError(f"byte order {order!r}")
    return np.dtype(("" if order == "|" else order) + code)


class _Plain:
    """Turns what a stream described into dictionaries, lists, numbers, text and arrays."""

    def __init__(self):
        self.items = 0

    def __call__(self, value: Any, depth: int = 0) -> Any:
        self.items += 1
        if depth > _MAX_DEPTH or self.items > _MAX_ITEMS:
            raise ValueError("nested or repeated without end")
        if value is None or isinstance(value, (bool, int, float, str, bytes, np.generic)):
            return value
        if isinstance(value, dict):
            return {self(k, depth + 1): self(v, depth + 1) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self(item, depth + 1) for item in value)
        if isinstance(value, _Built) and value.kind == "array":
            return self.array(value, depth)
        raise ValueError("something that is not plain data")

    def array(self, built: _Built, depth: int) -> np.ndarray:
        _, shape, dtype, fortran, content = _of(tuple, built.state)
        shape, dtype = tuple(_of(int, n) for n in _of(tuple, shape)), _dtype(dtype)
        order = "F" if fortran else "C"
        if dtype is not None:
            return np.frombuffer(_of(bytes, content), dtype).reshape(shape, order=order).copy()
        flat = np.empty(len(_of(list, content)), dtype=object)
        for index, item in enumerate(content):
            flat[index] = self(item, depth + 1)
        return flat.reshape(shape, order=order)


def read_plain(data: bytes) -> Any:
    """What is pickled in ``data``, if it is nothing but plain data.

    Plain are dictionaries, lists, tuples, numbers, text, bytes, ``None`` and NumPy arrays and
    scalars of these. No code is imported or called on behalf of the stream.

    Raises:
        ValueError: If the stream is damaged or would build or call anything else.
    """
    try:
        return _Plain()(_Stream(data).result)
    except (TypeError, IndexError, KeyError, struct.error, OverflowError, RecursionError) as error:
        raise ValueError(f"damaged stream of objects ({error})") from error


def read_objects(data: bytes) -> np.ndarray:
    """The object array pickled in ``data``, if it holds nothing but plain data.

    Args:
        data: The bytes after the header of a ``.npy`` member of object type.

    Raises:
        ValueError: If the stream is damaged or holds anything else, see :func:`read_plain`.
    """
    value = read_plain(data)
    if not isinstance(value, np.ndarray):
        raise ValueError("an array was expected")
    return value
