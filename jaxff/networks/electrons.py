"""Ground-state electron configurations of the elements, as numbers that describe them."""

import functools

import numpy as np

from jaxff.types import Float

__all__ = ["LAST", "configurations"]

LAST = 86
"""Last atomic number of the table."""

SUBSHELLS = (
    "1s", "2s", "2p", "3s", "3p", "4s", "3d", "4p", "5s", "4d", "5p", "6s", "4f", "5d", "6p",
)  # fmt: skip
"""In the order in which they are filled, with the exceptions below."""

# Atomic number, where electrons are missing, where they are, and how many.
EXCEPTIONS = (
    (24, "4s", "3d", 1), (29, "4s", "3d", 1), (41, "5s", "4d", 1), (42, "5s", "4d", 1),
    (44, "5s", "4d", 1), (45, "5s", "4d", 1), (46, "5s", "4d", 2), (47, "5s", "4d", 1),
    (57, "4f", "5d", 1), (58, "4f", "5d", 1), (64, "4f", "5d", 1), (78, "6s", "5d", 1),
    (79, "6s", "5d", 1),
)  # fmt: skip

_ROOM = {"s": 2, "p": 6, "d": 10, "f": 14}
_NOBLE = (2, 10, 18, 36, 54, 86)
_PERIODS_BEHIND = {"s": 0, "p": 0, "d": 1, "f": 2}


@functools.lru_cache(maxsize=1)
def configurations() -> Float[np.ndarray, "elements 20"]:
    """Atomic number, electrons in each of 15 subshells, and valence electrons in s, p, d and f.

    Each column is divided by its largest value; row 0, of padding, is zero. The valence electrons
    of period n are those in ns, np, (n - 1)d and (n - 2)f.

    Reference:
        Configurations: NIST Standard Reference Database 111 (Martin, Musgrove, Kotochigova &
        Sansonetti); their use: Unke et al., Nat. Commun. 12, 7273 (2021),
        doi:10.1038/s41467-021-27504-0.
    """
    rows = [np.zeros(20)]
    for number in range(1, LAST + 1):
        occupied = _occupations(number)
        period = 1 + sum(number > last for last in _NOBLE)
        valence = [
            occupied.get(f"{period - behind}{kind}", 0) for kind, behind in _PERIODS_BEHIND.items()
        ]
        rows.append(np.array([number, *occupied.values(), *valence], float))
    table = np.stack(rows)
    return table / table.max(axis=0)


def _occupations(number: int) -> dict[str, int]:
    """Electrons in each subshell."""
    left, result = number, {}
    for name in SUBSHELLS:
        result[name] = min(left, _ROOM[name[1]])
        left -= result[name]
    for element, source, target, count in EXCEPTIONS:
        if element == number:
            result[source] -= count
            result[target] += count
    return result
