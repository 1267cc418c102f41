"""The least of a curve with one minimum over many orders of magnitude."""

from collections.abc import Callable

import numpy as np

__all__ = ["descend"]


def descend(
    error: Callable[[float], float],
    start: float = 1.0,
    *,
    factor: float = 10.0,
    steps: int = 12,
) -> dict[float, float]:
    """Go from a start, factor by factor, downhill until the next is worse; then by half a factor.

    Args:
        error: What is to be small.
        start: Where to begin, positive.
        factor: Ratio of neighbours, above 1; that of the last step is its square root.
        steps: Most steps downhill, after which the last is taken as it is.

    Returns:
        Errors of all values that were tried.

    Raises:
        ValueError: For a start that is not positive, or a factor that is not above 1.
        ArithmeticError: If an error is not finite.
    """
    if not (start > 0 and factor > 1):
        raise ValueError(f"need a positive start and a factor above 1, got {start} and {factor}")
    found: dict[int, float] = {}  # by twice the power of the factor

    def at(place: int) -> float:
        if place not in found:
            found[place] = float(error(start * factor ** (place / 2)))
            if not np.isfinite(found[place]):
                raise ArithmeticError(
                    f"the error at {start * factor ** (place / 2):g} is no number"
                )
        return found[place]

    way = 2 if at(2) < at(0) else -2
    here = 2 if way > 0 else 0
    for _ in range(steps):
        if at(here + way) >= at(here):
            break
        here += way
    for place in (here - 1, here + 1):
        at(place)
    return {start * factor ** (place / 2): value for place, value in sorted(found.items())}
