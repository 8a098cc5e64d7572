"""Which trainings form a pack, and how often it failed: kept in the ledger."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from study.failures import Kind, Next, decide

# A training: the number of its configuration, and its seed.
Key = tuple[int, int]
_NAME = re.compile(r"packs\.(\d+)\.(\d+)")


@dataclass(frozen=True)
class Pack:
    """Trainings that are made together.

    Attributes:
        units: Which.
        failures: How often in a row it failed.
        reached: The furthest update at one of these.
    """

    units: tuple[Key, ...]
    failures: int = 0
    reached: int = -1


class Packs:
    """The packs of a study.

    All that became of what was handed out together is kept in one write, under its first
    training, so that an interruption finds it as it was or as it is.

    Args:
        attributes: Of the study, as they are kept.
        write: Sets one of them.
    """

    def __init__(self, attributes: Mapping[str, Any], write: Callable[[str, Any], None]) -> None:
        self._write = write
        self._families: dict[Key, list[Pack]] = {}
        self._first: dict[Key, Key] = {}
        for name, text in attributes.items():
            if match := _NAME.fullmatch(name):
                home = int(match[1]), int(match[2])
                self._adopt(home, [_pack(each) for each in json.loads(text)])

    def __contains__(self, unit: Key) -> bool:
        return unit in self._first

    def all(self) -> list[Pack]:
        """Every pack that was handed out, or is to be."""
        return [pack for _, family in sorted(self._families.items()) for pack in family]

    def add(self, units: Sequence[Key]) -> None:
        """A pack is handed out for the first time."""
        self._adopt(units[0], [Pack(tuple(units))])
        self._keep(units[0])

    def failed(self, units: Sequence[Key], kind: Kind, update: int, retries: int) -> Next:
        """Counts a failure, and decides what becomes of the pack.

        Args:
            units: Of the pack.
            kind: Of failure.
            update: How far the attempt came.
            retries: How often a failure is made good.
        """
        home, pack = self._find(units)
        # what was lost and had come further than before has not failed in a row
        onward = kind is Kind.LOST and update > pack.reached
        failures = 1 if onward else pack.failures + 1
        counted = replace(pack, failures=failures, reached=max(pack.reached, update))
        self._replace(home, pack, [counted])
        return decide(kind, len(units), failures, retries)

    def split(self, units: Sequence[Key]) -> list[Pack]:
        """Makes two packs of one, which have not failed yet."""
        home, pack = self._find(units)
        middle = (len(units) + 1) // 2
        halves = [Pack(pack.units[:middle]), Pack(pack.units[middle:])]
        self._replace(home, pack, halves)
        return halves

    def _find(self, units: Sequence[Key]) -> tuple[Key, Pack]:
        home = self._first[units[0]]
        return home, next(each for each in self._families[home] if each.units == tuple(units))

    def _replace(self, home: Key, pack: Pack, by: Sequence[Pack]) -> None:
        family = self._families[home]
        at = family.index(pack)
        family[at : at + 1] = by
        self._keep(home)

    def _adopt(self, home: Key, family: list[Pack]) -> None:
        self._families[home] = family
        self._first.update((unit, home) for pack in family for unit in pack.units)

    def _keep(self, home: Key) -> None:
        text = json.dumps([asdict(pack) for pack in self._families[home]])
        self._write("packs.{}.{}".format(*home), text)


def _pack(plain: Mapping[str, Any]) -> Pack:
    return Pack(**{**plain, "units": tuple((trial, seed) for trial, seed in plain["units"])})
