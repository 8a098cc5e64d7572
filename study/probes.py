"""Probes side by side: as many processes as a study will have workers, or nearly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from statistics import fmean
from types import TracebackType
from typing import IO, Any

import torch

# More would tell no more about how workers slow each other down.
MOST_PROBES = 8


class ProbeError(RuntimeError):
    """A probe ended by itself."""


class Probes:
    """Processes that do the same at the same time, and tell how long it took on average.

    Args:
        count: How many; at most `MOST_PROBES` are started.
        gpus: What a worker has of GPUs: a share of one, or a number of them.
    """

    def __init__(self, count: int, gpus: float = 0.0) -> None:
        self._count, self._gpus = min(count, MOST_PROBES), gpus
        self._processes: list[subprocess.Popen[str]] = []
        self._errors: list[IO[str]] = []
        # until the last was ready
        self.start_seconds = 0.0
        # of the last answer that was none, see `study.probe.Probe.shortage`
        self.shortage: dict[str, float] = {}

    def __enter__(self) -> Probes:
        began = time.perf_counter()
        try:
            for index in range(self._count):
                self._processes.append(self._process(index))
            self._answers(self._count)
        except BaseException:
            self._end()
            raise
        self.start_seconds = time.perf_counter() - began
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def ask(self, count: int, command: str, **arguments: Any) -> dict[str, float] | None:
        """Means of what the first `count` probes answer, who work side by side.

        Args:
            count: How many; all if there are fewer.
            command: A method of `study.probe.Probe`.
            arguments: Of it, plain values.

        Returns:
            The largest, not the mean, of ``bytes``; None if one had no memory for it, of which
            `shortage` tells.

        Raises:
            ProbeError: If a probe failed, with the end of what it said.
        """
        count = min(count, len(self._processes))
        for process in self._processes[:count]:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # the missing answer tells
                process.stdin.write(json.dumps([command, arguments]) + "\n")
                process.stdin.flush()
        answers = self._answers(count)
        full = [each for each in answers if "full" in each]
        if full:
            self.shortage = max(full, key=lambda each: each["needed"])
        return combined(answers)

    def _end(self) -> None:
        for process in self._processes:
            process.kill()  # it keeps nothing, and would take a second to end by itself
        for process in self._processes:
            process.communicate()
        for file in self._errors:
            file.close()

    def _answers(self, count: int) -> list[dict[str, float]]:
        return [self._answer(index) for index in range(count)]

    def _answer(self, index: int) -> dict[str, float]:
        process = self._processes[index]
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            process.wait()
            self._errors[index].seek(0)
            said = self._errors[index].read().strip().splitlines()
            raise ProbeError(said[-1] if said else _ended(process.returncode))
        found: dict[str, float] = json.loads(line)
        return found

    def _process(self, index: int) -> subprocess.Popen[str]:
        errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._errors.append(errors)
        share = str(min(1.0, self._gpus) or 1.0)
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "study.probe", share, str(self._count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=self._environment(index),
        )

    def _environment(self, index: int) -> dict[str, str]:
        """Finds what this process finds, and sees the GPUs that a worker would."""
        path = os.pathsep.join(each or os.getcwd() for each in sys.path)
        return {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": self._seen(index)}

    def _seen(self, index: int) -> str:
        if not self._gpus:
            return ""
        given = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]
        if self._gpus < 1:
            return gpus[index // int(1 / self._gpus) % len(gpus)]
        wanted = int(self._gpus)
        return ",".join(gpus[index * wanted : (index + 1) * wanted])


def _ended(code: int) -> str:
    if code == -signal.SIGKILL:
        return "it was killed, as a system does that runs out of memory"
    return f"ended with {code}"


def combined(replies: Sequence[dict[str, float]]) -> dict[str, float] | None:
    """One answer for several: means, but the largest of ``bytes``; None if one was full."""
    if any("full" in reply for reply in replies):
        return None
    return {
        name: (max if name == "bytes" else fmean)([reply[name] for reply in replies])
        for name in replies[0]
    }
