"""What a study leaves when it ends, or stops: table, report, MLflow's record, and the answer."""

from __future__ import annotations

import sys
from pathlib import Path

from ebm_core.files import sweep
from study import report, table
from study.opening import CONCLUDED, OpenStudy

# How long MLflow is waited for once it no longer gets on; what it has not been told is kept.
_PATIENT_SECONDS = 15.0
_HURRIED_SECONDS = 3.0


def conclude(opened: OpenStudy, patient: bool) -> int:
    """Writes table and report, tells MLflow, and prints the answer.

    Args:
        opened: The study.
        patient: Whether to wait for an MLflow that is away.

    Returns:
        How many trainings failed to run.
    """
    spec, ledger, folder = opened.spec, opened.ledger, opened.folder
    # the table names MLflow's runs, as far as they are known
    _deliver(opened, patient)
    if ledger.complete:
        _tidy(folder)
    frame = table.write(ledger.rows(), folder)
    written = report.build(spec, frame, folder)
    answer = written.answer
    if opened.courier is not None:
        opened.outbox.close(
            metrics={"trainings": len(frame), **answer.configurations},
            tags={"answer": answer.lead},
            artifacts=[
                written.page,
                folder / "results.csv",
                folder / "study.json",
                *written.pictures,
            ],
            description="\n\n".join(
                [f"**{answer.lead}**", f"*{written.question}*", *answer.sentences[1:]]
            ),
            status="FINISHED" if ledger.complete else "KILLED",
        )
        ledger.study.set_user_attr(CONCLUDED, len(frame))
    print("", *answer.sentences, "", sep="\n")
    if not _deliver(opened, patient):
        trouble = opened.trouble() or "MLflow is slow"
        print(
            f"warning: {trouble}; what it is to be told is kept, and told by the same command.",
            file=sys.stderr,
        )
    failed = int((frame["status"] == "failed").sum())
    if failed:
        print(f"{failed} of {len(frame)} trainings failed to run; the report says why.")
    return failed


def _tidy(folder: Path) -> None:
    """Removes what processes that were killed have left; what workers said stays."""
    sweep(folder)
    for path in (folder / "trials").glob("*/pack-*"):
        if path.suffix != ".log":
            path.unlink()


def _deliver(opened: OpenStudy, patient: bool) -> bool:
    """Whether MLflow was told all that there is to tell."""
    if opened.courier is None:
        return True
    done = opened.courier.drain(_PATIENT_SECONDS if patient else _HURRIED_SECONDS)
    opened.recorder.note_runs()
    return done
