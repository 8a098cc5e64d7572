"""A study on two Ray nodes of which one is lost while it runs, beside the same on one machine.

    python tests/benchmarks/test_two_nodes.py

Two nodes of one core each on this machine, that let in whoever has their token. Which of them
trains what is seen from the processes that each has started. Once both have trained and while the
second does, it is lost: everything below it is killed at once. The study must end all the same,
and hold what the other does, bit for bit. Then the driver of the same study is killed on a new
cluster, to see how long its workers stay, and the command is given a wrong token, and the address
of no cluster.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from same_study import LOG, Comparison, compared
from survivors import Started
from test_kill_campaign import (
    NAME,
    PATIENCE_SECONDS,
    SURVIVAL_SECONDS,
    said,
    start,
    study,
    undisturbed,
    write,
)

# A node is up, or a command that cannot join has said so, within this.
NODE_SECONDS, REFUSAL_SECONDS = 60.0, 60.0
# What a study on a cluster is asked otherwise
ASKED_OTHERWISE = ("storage", "resources.address")


@dataclass
class Cluster:
    """Two nodes, and what they were seen to train.

    Attributes:
        address: Of the head.
        environment: Of whoever is to be let in.
        nodes: The head, and the other.
        packs: The packs that each was seen to train.
    """

    address: str
    environment: dict[str, str]
    nodes: list[Started]
    packs: tuple[set[Path], set[Path]] = field(default_factory=lambda: (set(), set()))

    def look(self) -> list[list[Path]]:
        """The packs that each node trains at this moment."""
        now = [[log for log in node.workers().values() if log] for node in self.nodes]
        for packs, logs in zip(self.packs, now, strict=True):
            packs.update(logs)
        return now


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Starts two nodes; at the end nothing is left of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": uuid.uuid4().hex,
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray's workers import what the study is written in
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    found = Cluster(f"127.0.0.1:{port}", environment, [])
    # Ray keeps sockets there, whose names may not be long
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as scratch:
        try:
            head = ("--head", f"--port={port}", "--include-dashboard=false")
            for options in ((*head, f"--temp-dir={scratch}"), (f"--address={found.address}",)):
                found.nodes.append(_node(folder, environment, options))
            yield found
        finally:
            for node in found.nodes:
                node.kill_all()


def _node(folder: Path, environment: dict[str, str], options: Sequence[str]) -> Started:
    ray = Path(sys.executable).with_name("ray")
    log = folder / f"node-{uuid.uuid4().hex}.txt"
    node = Started(
        [str(ray), "start", "--block", "--num-cpus=1", *options], folder, log, environment
    )
    try:
        until(lambda: "Ray runtime started" in log.read_text(), node)
    except BaseException:
        node.kill_all()
        raise
    return node


def until(there: Callable[[], bool], run: Started, seconds: float = NODE_SECONDS) -> None:
    """Waits for something, while a command runs."""
    end = time.monotonic() + seconds
    while not there():
        assert run.wait(0.1) is None, "the command ended before that"
        assert time.monotonic() < end, "that did not happen in time"


@dataclass(frozen=True)
class Lost:
    """A study one of whose nodes was lost.

    Attributes:
        packs: How many each node was seen to train before that.
        running: What the lost one trained at that moment.
        found: What the study came to, beside the undisturbed one.
    """

    packs: tuple[int, int]
    running: int
    found: Comparison


def node_lost(folder: Path, document: dict[str, Any], reference: Path, each: int) -> Lost:
    """Runs a study, and kills the second node once each has trained so many packs."""
    folder.mkdir()
    with cluster(folder.parent) as nodes:
        run = _joining(folder, document, nodes)
        try:

            def due() -> bool:
                now = nodes.look()
                return min(map(len, nodes.packs)) >= each and bool(now[1])

            until(due, run, PATIENCE_SECONDS)
            lost = nodes.nodes[1]
            running = len(nodes.look()[1])
            lost.kill_all()
            code = run.wait(PATIENCE_SECONDS)
            assert code == 0, f"exit code {code}: {said(folder)}"
        finally:
            run.kill_all()
    packs = len(nodes.packs[0]), len(nodes.packs[1])
    return Lost(packs, running, compared(reference, folder, NAME, ASKED_OTHERWISE))


def driver_lost(folder: Path, document: dict[str, Any]) -> float:
    """Kills the driver on a cluster; returns after how many seconds no worker of it is left."""
    folder.mkdir()
    with cluster(folder.parent) as nodes:
        run = _joining(folder, document, nodes)
        until(lambda: all(nodes.look()), run, PATIENCE_SECONDS)
        theirs = [{*node.workers()} for node in nodes.nodes]
        run.kill()
        began = time.monotonic()
        # the nodes go on, with workers that wait for others' work
        while any(
            their & {*node.workers()} for their, node in zip(theirs, nodes.nodes, strict=True)
        ):
            assert time.monotonic() - began < SURVIVAL_SECONDS, "workers are left"
            time.sleep(0.1)
        return time.monotonic() - began


def _joining(folder: Path, document: dict[str, Any], nodes: Cluster) -> Started:
    """The command, which joins a cluster."""
    resources = {**document["resources"], "address": nodes.address}
    storage = str(folder / "studies")
    write(folder, {**document, "resources": resources, "storage": storage})
    return start(folder, "--no-progress", environment=nodes.environment)


@dataclass(frozen=True)
class Refusal:
    """What the command said of a cluster that it could not join, how soon, and what it left."""

    code: int | None
    seconds: float
    text: str
    left: tuple[str, ...]

    @property
    def last(self) -> str:
        """Its last line; Ray may have its say before that."""
        return self.text.splitlines()[-1]

    @property
    def clear(self) -> bool:
        """Whether it is a message about the key at fault."""
        return (
            self.code == 2
            and self.last.startswith("s.yaml: resources.address: ")
            and "Traceback" not in self.text
        )


def refused(folder: Path, document: dict[str, Any], nodes: Cluster) -> Refusal:
    """Runs a study that cannot join."""
    folder.mkdir()
    began = time.monotonic()
    run = _joining(folder, document, nodes)
    given = {LOG, "s.yaml"}
    try:
        code = run.wait(REFUSAL_SECONDS)
    finally:
        run.kill_all()
    seconds = time.monotonic() - began
    left = {path.name for path in folder.iterdir()} - given
    return Refusal(code, seconds, (folder / LOG).read_text(errors="replace"), tuple(left))


def refusals(folder: Path, document: dict[str, Any]) -> dict[str, Refusal]:
    """What is said of a wrong token, and of no cluster."""
    with cluster(folder) as nodes:
        stranger = {**nodes.environment, "RAY_AUTH_TOKEN": uuid.uuid4().hex}
        wrong = refused(folder / "wrong", document, Cluster(nodes.address, stranger, []))
    # nobody listens there any more
    return {"wrong token": wrong, "no cluster": refused(folder / "none", document, nodes)}


def report(lost: Lost) -> str:
    found = lost.found
    return (
        f"packs seen on the head and on the other node: {lost.packs[0]} and {lost.packs[1]};"
        f" {lost.running} of them under way on the other as it was killed\n"
        f"trainings lost: {found.lost} of {found.trainings}; doubled: {found.doubled};"
        f" other differences: {len(found.differences)}"
    )


def main() -> int:
    """Prints what happened; returns 1 if something was lost, doubled, different or unclear."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        document = study(1, 12, 1_500)
        _, wall = undisturbed(folder / "undisturbed", document)
        began = time.monotonic()
        lost = node_lost(folder / "lost", document, folder / "undisturbed", 2)
        print(report(lost), *lost.found.differences, sep="\n")
        print(f"{time.monotonic() - began:.0f} s, and {wall:.0f} s undisturbed", flush=True)
        print(f"a killed driver's workers: {driver_lost(folder / 'driver', document):.1f} s")
        answers = refusals(folder, document)
        for what, answer in answers.items():
            print(f"{what}: exit code {answer.code} after {answer.seconds:.1f} s: {answer.last}")
    return 0 if lost.found.same and all(answer.clear for answer in answers.values()) else 1


# -- the short form ------------------------------------------------------------------------------


def test_a_study_survives_the_loss_of_a_node(tmp_path: Path) -> None:
    document = study(1, 4, 400)
    undisturbed(tmp_path / "undisturbed", document)
    lost = node_lost(tmp_path / "lost", document, tmp_path / "undisturbed", 1)
    print(report(lost))
    assert min(lost.packs) >= 1
    assert lost.running == 1
    assert lost.found.same, lost.found


def test_who_is_not_let_in_is_told_so(tmp_path: Path) -> None:
    answers = refusals(tmp_path, study(1, 6, 400))
    for answer in answers.values():
        assert answer.clear, answer
        # no folder of a study, no record in MLflow
        assert answer.left == (), answer
    assert "token" in answers["wrong token"].text
    assert "token" not in answers["no cluster"].text


if __name__ == "__main__":
    sys.exit(main())
