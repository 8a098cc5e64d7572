"""What MLflow shows as the description of a training, a study or an experiment, in Markdown.

Pictures in it are small copies that lead to the whole ones: MLflow takes no width of a picture,
and one that is wider than its column pushes the numbers beside it off the page.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PREVIEW = "preview.png"
# In a description of an experiment that is a study's, and may be replaced by the next one's.
_OURS = "<!-- Written by a study; without this line the next one leaves it as it is. -->"
_PREVIEW_WIDTH = 600
# Of an experiment's description, in characters
_LONGEST = 5_000

_CURVES = (
    "Curves: values at single updates. The last point of `r`, `r_scaled`, `r_matched` and "
    "`r_band_adherence` is what the table of the study holds, if it holds one: the assessed "
    "window's."
)
_READING = (
    "Each row is one training. `verdict`, `oscillation` and `reasons` are what d and r say of it, "
    "`long_run` is what long chains of its last model do. Two or more can be ticked and compared; "
    "the chart view shows d and r over the updates."
)
# What a picture shows; of several the first is taken.
_SHOWN = {
    "map.png": "P(convergent) over the axes",
    "overview.png": "The trainings of the study",
    "diagnostics.png": "d and r over the updates",
}
# What to lead to, by the artifact of a study.
_LEADS = {"report.html": "Report", "map.png": "Map", "results.csv": "Table"}


@dataclass(frozen=True)
class RunPage:
    """Where MLflow's UI shows a run, as seen from any of its pages.

    Attributes:
        experiment_id: Of the experiment.
        run_id: Of the run.
    """

    experiment_id: str
    run_id: str

    def link(self, text: str, artifact: str = "") -> str:
        """Leads to the run, or to one of its artifacts."""
        place = f"/artifacts/{artifact}" if artifact else ""
        run = f"#/experiments/{self.experiment_id}/runs/{self.run_id}"
        return f"[{text}]({run}{place}?workflowType=machine_learning)"

    def picture(self, artifact: str) -> str:
        """Shows the preview of the run, which leads to the artifact that it is a copy of."""
        source = f"get-artifact?path={PREVIEW}&run_uuid={self.run_id}"
        return self.link(f"![{_SHOWN[artifact]}]({source})", artifact)


def preview(files: Iterable[Path], folder: Path) -> str:
    """Puts a small copy of a picture into a folder, as `PREVIEW`.

    Args:
        files: What there is.
        folder: Where to.

    Returns:
        The name of the picture; empty if there is none, or it is damaged.
    """
    from PIL import Image

    known = {path.name: path for path in files}
    name = next((each for each in _SHOWN if each in known), "")
    if not name:
        return ""
    try:
        with Image.open(known[name]) as picture:
            small = picture.convert("RGB")
    except OSError:
        return ""
    small.thumbnail((_PREVIEW_WIDTH, small.height))
    small.save(folder / PREVIEW)
    return name


def training(outcome: Mapping[str, str], picture: str = "") -> str:
    """What became of a training.

    Args:
        outcome: ``status``, ``verdict``, ``reasons``, ``oscillation``, ``long_run`` and ``cause``
            as in the table; empty ones may be missing.
        picture: See `RunPage.picture`; empty if there is none.
    """
    if not outcome:
        return _CURVES
    said = f"**{outcome.get('verdict') or outcome.get('status')}**"
    if reasons := outcome.get("reasons"):
        said += f" ({reasons.replace(';', ', ')})"
    for words, name in (("oscillation", "oscillation"), ("long run", "long_run")):
        if outcome.get(name) not in (None, "", "not_run"):
            said += f"; {words} {outcome[name]}"
    # of a traceback the last line says what it was
    cause = outcome.get("cause", "").strip().rpartition("\n")[2].replace("`", "'")
    cause = f"`{cause}`" if cause else ""
    return "\n\n".join(part for part in (f"{said}.", cause, picture, _CURVES) if part)


def study(said: str, page: RunPage, artifacts: Collection[str], picture: str = "") -> str:
    """What a study found, and where there is more.

    Of a description that is folded MLflow shows the top: the answer and the links.

    Args:
        said: The answer, Markdown, most important paragraph first.
        page: Of the study.
        artifacts: Names of what it has.
        picture: See `RunPage.picture`; empty if there is none.
    """
    answer, _, more = said.partition("\n\n")
    leads = [page.link(text, name) for name, text in _LEADS.items() if name in artifacts]
    parts = (answer, " · ".join(leads), more, picture)
    return "\n\n".join(part for part in parts if part)


def experiment(name: str, found: str, page: RunPage) -> str:
    """What the study of an experiment that ended last found, and how to read the experiment.

    Folded, it is one line: the name and the answer.

    Args:
        name: Of the study.
        found: See `study`.
        page: Of the study.
    """
    more = f"\n\n{page.link('The run of the whole study')}\n\n{_READING}\n\n{_OURS}"
    return f"{name}: {found}"[: _LONGEST - len(more)] + more


def replaceable(description: str) -> bool:
    """Whether a description of an experiment is missing or a study's, not somebody's own."""
    return not description or _OURS in description
