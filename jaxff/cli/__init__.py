"""The ``jaxff`` command: thin functions over the library, typed so that the help writes itself.

Only here float64 is switched on. Errors of the library end the program with one line and exit code
2; ``--debug`` (or ``JAXFF_DEBUG=1``) shows the traceback.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from jaxff.cli.console import as_flags, complain, warn

__all__ = ["main"]

_DESCRIPTION = """Machine-learned force fields from a data file to molecular dynamics.

Start with: jaxff quickstart"""

_EXPECTED = (
    ValueError,
    TypeError,
    LookupError,
    OSError,
    MemoryError,
    ArithmeticError,
    RuntimeError,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments; default those of the process.

    Returns:
        Exit code: 0, or 2 after an error that was explained, 1 after an unexpected one, 130 after
        an interrupt.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments or os.environ.get("JAXFF_DEBUG", "") not in ("", "0")
    arguments = [a for a in arguments if a != "--debug"] or ["--help"]
    if arguments == ["--version"]:
        from importlib.metadata import version

        sys.stdout.write(f"jaxff {version('jaxff')}\n")
        return 0
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show(warnings.showwarning)
            _run(arguments)
    except KeyboardInterrupt:
        if debug:
            raise
        complain("interrupted")
        return 130
    except _EXPECTED as error:
        if debug:
            raise
        complain(f"error: {_one_line(error)}")
        return 2
    except Exception as error:  # a user is never left with a traceback
        if debug:
            raise
        complain(
            f"error: unexpected {type(error).__name__}: {_one_line(error)} (please report this, "
            "with the output of the same command with --debug)"
        )
        return 1
    return 0


def _show(usual: Callable[..., None]) -> Callable[..., None]:
    """Prints warnings of the library as the commands print theirs, others as usual."""

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if category is UserWarning:
            warn(str(message))
        else:
            usual(message, category, *rest, **more)

    return show


def _run(arguments: list[str]) -> None:
    import jax
    import tyro

    jax.config.update("jax_enable_x64", True)  # kernels are float64
    tyro.extras.subcommand_cli_from_dict(
        _commands(),
        prog="jaxff",
        description=_DESCRIPTION,
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )


def _commands() -> dict[str, Callable[..., Any]]:
    from jaxff.cli.coarse_grain import coarse_grain
    from jaxff.cli.evaluate import evaluate
    from jaxff.cli.fit import fit
    from jaxff.cli.info import info
    from jaxff.cli.md import md
    from jaxff.cli.modes import modes
    from jaxff.cli.phonons import phonons
    from jaxff.cli.quickstart import quickstart
    from jaxff.cli.relax import relax
    from jaxff.cli.train import train

    return {
        "quickstart": quickstart,
        "fit": fit,
        "train": train,
        "evaluate": evaluate,
        "md": md,
        "relax": relax,
        "modes": modes,
        "phonons": phonons,
        "coarse-grain": coarse_grain,
        "info": info,
    }


def _one_line(error: BaseException) -> str:
    if isinstance(error, KeyError) and error.args:
        text = f"no entry {error.args[0]!r}"
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error) or type(error).__name__
    return as_flags(" ".join(text.split()))
