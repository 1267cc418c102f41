"""Checkpoints of training: by orbax, each with a digest, so that damage is noticed.

A checkpoint is a folder that takes its name when it is complete: a run that is killed while it
writes leaves the earlier ones as they were. What is read is compared with the digest that was
written; a damaged checkpoint is set aside, and the one before it serves.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Checkpoints", "Restored"]

_DIGEST, _LAYOUT = "digest", "layout"


class Restored(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        step: Its step.
        tree: Arrays, in the structure and of the kinds that were asked for.
        record: Other values, as JSON has them.
    """

    step: int
    tree: Any
    record: dict[str, Any]


class Checkpoints:
    """The checkpoints in a folder.

    Attributes:
        folder: Where they are; an absolute path.
        keep: How many are kept, the newest.
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 3):
        """Open a folder, and make it if need be.

        Raises:
            ValueError: If ``keep`` is not positive.
        """
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self.folder, self.keep = Path(folder).expanduser().resolve(), keep
        self._manager = _manager(self.folder, keep)

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints that are complete, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, tree: Any, record: Mapping[str, Any]) -> None:
        """Write a checkpoint; when this returns it is complete.

        Args:
            step: Its name; one of the same step is replaced.
            tree: Pytree of arrays and keys.
            record: Values that JSON can hold.

        Raises:
            OSError: If it cannot be written; those before it are as they were.
        """
        import orbax.checkpoint as ocp

        arrays = _on_host(tree)
        content = {**record, _LAYOUT: _layout(arrays)}
        content[_DIGEST] = _digest(arrays, content)
        items = ocp.args.Composite(
            tree=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(content)
        )
        try:
            if step in self._manager.all_steps():
                self._manager.delete(step)
            self._manager.save(step, args=items, force=True)
            self._manager.wait_until_finished()
        except (OSError, ValueError, RuntimeError) as error:  # orbax has no one type for it
            raise OSError(
                f"{self.folder}: the checkpoint of step {step} could not be written "
                f"({' '.join(str(error).split())[-200:]}); mend that and go on from the one before"
            ) from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other runs out of the folder; a run that is killed leaves it free.

        Where there are no such locks (Windows, some network file systems), nothing is kept out.

        Raises:
            BlockingIOError: If another run is at it.
        """
        try:
            import fcntl
        except ImportError:
            yield
            return
        with (self.folder / ".lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BlockingIOError(
                    f"{self.folder}: another run is writing its checkpoints here: wait for its "
                    "end, or name another folder"
                ) from error
            except OSError:  # a file system without locks
                pass
            yield

    def clear(self) -> None:
        """Remove them all; what is damaged and set aside stays.

        Raises:
            BlockingIOError: If a run is at it.
        """
        with self.alone():
            for step in self.steps:
                self._manager.delete(step)

    def restore(self, like: Any) -> Restored | None:
        """The newest checkpoint that is whole, or ``None`` if there is none.

        Damaged ones are renamed, with a warning that names them.

        Args:
            like: Pytree of the structure, shapes and types that are expected.

        Raises:
            ValueError: If a checkpoint belongs to a run with other parameters or optimiser.
        """
        wanted = _on_host(like)
        for step in reversed(self.steps):
            try:
                arrays, record = self._read(step, wanted)
            except _OtherRunError as error:
                raise ValueError(str(error)) from error
            except Exception as error:  # noqa: BLE001 - whatever damage makes a reader raise
                self._set_aside(step, error)
                continue
            return Restored(step, _as(like, arrays), record)
        return None

    def _read(self, step: int, wanted: Any) -> tuple[Any, dict[str, Any]]:
        import orbax.checkpoint as ocp

        only = ocp.args.Composite(record=ocp.args.JsonRestore())
        record = dict(self._manager.restore(step, args=only)["record"])
        if record[_LAYOUT] != _layout(wanted):
            raise _OtherRunError(_difference(self.folder / str(step), record[_LAYOUT], wanted))
        both = ocp.args.Composite(tree=ocp.args.StandardRestore(wanted))
        arrays = self._manager.restore(step, args=both)["tree"]
        arrays = jax.tree.map(np.asarray, arrays)
        digest = record.pop(_DIGEST)
        if _digest(arrays, record) != digest:
            raise ValueError("its content is not what was written")
        record.pop(_LAYOUT)
        return arrays, record

    def _set_aside(self, step: int, error: Exception) -> None:
        damaged = self.folder / str(step)
        aside, count = self.folder / f"damaged-{step}", 1
        while aside.exists():
            aside, count = self.folder / f"damaged-{step}-{count}", count + 1
        damaged.rename(aside)
        self._manager = _manager(self.folder, self.keep)
        left = "the one before it is used" if self.steps else "there is none before it: start anew"
        warnings.warn(
            f"{damaged}: this checkpoint is damaged ({' '.join(str(error).split())[:200]}); it is "
            f"renamed to {aside.name}, and {left}",
            stacklevel=4,
        )


class _OtherRunError(Exception):
    """A checkpoint that is whole, but of another structure."""


def _manager(folder: Path, keep: int) -> Any:
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, create=True, enable_async_checkpointing=False
    )
    return ocp.CheckpointManager(folder, options=options)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _on_host(tree: Any) -> Any:
    """NumPy arrays of all leaves, keys as their data."""
    return jax.tree.map(
        lambda leaf: np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf), tree
    )


def _as(like: Any, arrays: Any) -> Any:
    """Arrays on the devices on which those of ``like`` are, keys as keys."""

    def leaf(old: Any, new: np.ndarray) -> Any:
        if _is_key(old):
            new = jax.random.wrap_key_data(jnp.asarray(new), impl=jax.random.key_impl(old))
        if isinstance(old, jax.Array) and old.committed:
            return jax.device_put(new, old.sharding)
        return jnp.array(new)  # a copy: steps give up the buffers of their state

    return jax.tree.map(leaf, like, arrays)


def _layout(arrays: Any) -> list[list[Any]]:
    """Path, shape and type of every leaf, as JSON has them."""
    return [
        [jax.tree_util.keystr(path, simple=True, separator="/"), list(leaf.shape), str(leaf.dtype)]
        for path, leaf in jax.tree_util.tree_flatten_with_path(arrays)[0]
    ]


def _difference(path: Path, found: list[list[Any]], wanted: Any) -> str:
    own = _layout(wanted)
    odd = [leaf for leaf in found if leaf not in own] or [leaf for leaf in own if leaf not in found]
    return (
        f"{path}: this checkpoint belongs to a run with other parameters or another optimizer (for "
        f"instance {odd[0] if odd else 'their order'}): name another folder, or repeat its settings"
    )


def _digest(arrays: Any, record: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(arrays):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    content = {key: value for key, value in record.items() if key != _DIGEST}
    digest.update(json.dumps(content, sort_keys=True).encode())
    return digest.hexdigest()
