"""Brings what is in the outbox to MLflow, beside the training, for as long as that takes."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from study.mlflow_store import load, reason
from study.outbox import Key, Outbox, Record
from study.tracking import Tracker

# Seconds before a failed delivery is tried again: the first time, and at most
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
# What failed so often, each time after others got through, is at fault itself
STRIKES = 10
# The outcome of a study waits for its trainings until each of them failed so often in a row
TRIES = 4


@dataclass
class _Delivery:
    """How far the delivery of one file is.

    Attributes:
        key: The training, None for the outcome of the study.
        offset: Up to where its records are delivered.
        run_id: Of the training, once known.
        failed: When it failed last, as a count of all failures; 0 if it got through since.
        tries: How often it failed since it got through.
        strikes: How often it failed although others got through.
        others: How much was delivered in all when it failed last.
        fault: Why it is set aside, empty if it is not.
    """

    key: Key | None
    offset: int = 0
    run_id: str = ""
    failed: int = 0
    tries: int = 0
    strikes: int = 0
    others: int = 0
    fault: str = ""


class Courier:
    """A thread that delivers, from `with` to the end of its block.

    Records of one training are delivered in order, the outcome of the study after all of them.
    What fails is tried again after a pause, and meanwhile something else. Nobody else may use the
    tracker meanwhile.

    Args:
        tracker: Of the study; opened here if it is not open.
        outbox: Of the study.
        params: What to open it with.
        first_pause: Seconds before a failed delivery is tried again; doubles with each failure.
        longest_pause: Up to this many.
    """

    def __init__(
        self,
        tracker: Tracker,
        outbox: Outbox,
        params: Mapping[str, Any],
        first_pause: float = FIRST_PAUSE,
        longest_pause: float = LONGEST_PAUSE,
    ) -> None:
        self._tracker, self._outbox, self._params = tracker, outbox, params
        self._first_pause, self._longest_pause = first_pause, longest_pause
        self._thread = threading.Thread(target=self._work, name="courier", daemon=True)
        # what only the thread touches
        self._deliveries: dict[Key, _Delivery] = {}
        self._closing = _Delivery(None)
        self._failures = 0
        # what it shares, under this lock; nobody holds that for longer than an assignment takes
        self._changed = threading.Condition()
        self._appended, self._exhausted_at, self._delivered = 0, -1, 0
        self._stopped = self._hurried = False
        self._runs: dict[Key, str] = {}
        self._faults: dict[str, str] = {}
        # when it began, and why
        self._away: tuple[str, str] | None = None

    def __enter__(self) -> Courier:
        load(self._tracker.uri)
        self._outbox.on_append = self._on_append
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    @property
    def runs(self) -> dict[Key, str]:
        """MLflow's run of each training whose run is known so far."""
        with self._changed:
            return dict(self._runs)

    @property
    def trouble(self) -> str | None:
        """What is in its way and since when; None if nothing is."""
        with self._changed:
            told = []
            if self._away:
                since, why = self._away
                told.append(f"{self._tracker.uri} fails since {since} ({why})")
            told += [f"{name} cannot be delivered ({why})" for name, why in self._faults.items()]
        return "; ".join(told) or None

    def drain(self, seconds: float) -> bool:
        """Waits until all is delivered, for as long as there is progress.

        Args:
            seconds: How long to wait without any.

        Returns:
            Whether all is delivered. The rest stays in the outbox.
        """
        with self._changed:
            self._hurried = True
            self._changed.notify_all()
            while self._exhausted_at != self._appended:
                before = self._delivered
                if not self._changed.wait_for(partial(self._progressed, before), seconds):
                    return False
            return not self._faults

    def close(self) -> None:
        """Ends the thread; a request under way is left to itself."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def _progressed(self, before: int) -> bool:
        return self._delivered != before or self._exhausted_at == self._appended

    def _on_append(self) -> None:
        with self._changed:
            self._appended += 1
            self._changed.notify_all()

    # -- the thread ------------------------------------------------------------------------------

    def _work(self) -> None:
        pause = self._first_pause
        while not self._stopped:
            with self._changed:
                appended = self._appended
            delivery = None
            try:
                delivery = self._next()
                if delivery is None:
                    self._rest(appended)
                elif delivery.key is None:
                    self._deliver_outcome()
                else:
                    self._deliver(delivery, delivery.key)
            # a store may fail in any way; none of them may end a study
            except Exception as error:
                self._note_failure(delivery, error)
                self._pause(pause)
                pause = min(2 * pause, self._longest_pause)
            else:
                pause = self._first_pause

    def _rest(self, appended: int) -> None:
        with self._changed:
            self._exhausted_at, self._hurried = appended, False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._stopped or self._appended != appended)

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._hurried, seconds)
            self._hurried = False

    def _next(self) -> _Delivery | None:
        """What to deliver: what did not fail if there is any, else what failed the longest ago.

        The outcome of the study waits for its trainings, but not for ever.
        """
        ready = self._outbox.ready()
        for key in ready:
            self._deliveries.setdefault(key, _Delivery(key))
        waiting = [
            delivery
            for key, delivery in self._deliveries.items()
            if ready.get(key, 0) > delivery.offset and not delivery.fault
        ]
        stuck = all(delivery.tries >= TRIES for delivery in waiting)
        if stuck and self._outbox.closing() is not None and not self._closing.fault:
            waiting.append(self._closing)
        return min(waiting, key=lambda delivery: delivery.failed, default=None)

    def _deliver(self, delivery: _Delivery, key: Key) -> None:
        self._open()
        records = self._outbox.read(key, delivery.offset)
        row = records[-1][0].get("row")
        for kind, group in itertools.groupby(records, lambda each: each[0]["kind"]):
            parts = list(group)
            self._tell(delivery, key, kind, [record for record, _ in parts], row)
            delivery.offset = parts[-1][1]
            self._note_success(delivery)

    def _deliver_outcome(self) -> None:
        self._open()
        record = self._outbox.closing()
        if record is None:
            return
        self._tracker.close(
            record["metrics"],
            record["tags"],
            [self._outbox.study / path for path in record["artifacts"]],
            record["description"],
            record["status"],
            at=record["time"],
        )
        self._outbox.closed(record)
        self._note_success(self._closing)

    def _open(self) -> None:
        if not self._tracker.run_id:
            self._tracker.open(self._params)

    def _tell(
        self, delivery: _Delivery, key: Key, kind: str, records: list[Record], row: Any
    ) -> None:
        """Delivers records of one kind, of which only curves may be several."""
        tracker, first = self._tracker, records[0]
        if kind == "start":
            delivery.run_id = tracker.child(*key, first["config"], first["name"])
            with self._changed:
                self._runs[key] = delivery.run_id
        elif kind == "curve":
            tracker.log_curve(delivery.run_id, list(_points(records)), row)
        else:
            files = self._outbox.study / first["files"]
            tracker.finish_child(delivery.run_id, first["row"], files, at=first["time"])
            self._outbox.remove(key)
            del self._deliveries[key]

    def _note_success(self, delivery: _Delivery) -> None:
        delivery.failed = delivery.tries = delivery.strikes = 0
        with self._changed:
            self._away = None
            self._delivered += 1
            self._changed.notify_all()

    def _note_failure(self, delivery: _Delivery | None, error: Exception) -> None:
        why = reason(error)
        self._failures += 1
        with self._changed:
            delivered = self._delivered
            self._away = (self._away[0] if self._away else time.strftime("%H:%M:%S")), why
        if delivery is None:
            return
        delivery.failed = self._failures
        delivery.tries += 1
        if delivered > delivery.others:
            delivery.others = delivered
            delivery.strikes += 1
        if delivery.strikes >= STRIKES:
            # the store is not away
            delivery.fault = why
            name = (
                "the outcome"
                if delivery.key is None
                else "training {:04d}-{}".format(*delivery.key)
            )
            with self._changed:
                self._faults[name], self._away = why, None


def _points(records: list[Record]) -> Iterator[dict[str, float]]:
    for record in records:
        for point in record["points"]:
            yield {**point, "time": record["time"]}
