"""Whatever a study file holds, it is a study or is refused in words: quickly, and nothing is run.

`tests/benchmarks/test_nonsense_campaign.py` does the same with thousands of files.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import fates
import pytest
from fates import SECONDS, campaign, fate
from nonsense import EVERYTHING, KINDS, TEXTS

from ebm_core.document import read_document
from ebm_core.errors import ConfigError, Problem
from study.spec import load_study

FILES = 40
FILE = Path("s.yaml")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def _loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is imported on first use, such as the network layers' names, is not timed."""
    assert fate(tmp_path_factory.mktemp("first") / "s.yaml", EVERYTHING.encode()).valid


# -- the campaign --------------------------------------------------------------------------------


def test_over_five_hundred_files_are_tried() -> None:
    assert FILES * len(KINDS) >= 500


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_is_a_study_or_is_refused_in_words(kind: str) -> None:
    found = campaign(kind, FILES, FILE)
    assert len({content for content, _ in found}) > FILES / 2
    assert any(not each.valid for _, each in found)
    content, slowest = max(found, key=lambda each: each[1].seconds)
    assert slowest.seconds < SECONDS, content[:500]
    assert [path.name for path in Path().iterdir()] == ["s.yaml"]


@pytest.mark.parametrize("text", TEXTS)
def test_files_that_nobody_changed_are_studies(text: str) -> None:
    assert fate(FILE, text.encode()).valid is ("data/flowers" not in text)


# -- what the campaign would find ----------------------------------------------------------------


GOOD = Problem("name", "must be right")


def refuse(*problems: Problem, source: str = "s.yaml") -> None:
    raise ConfigError(problems, source)


@pytest.mark.parametrize(
    "reader",
    [
        lambda path: (Path("new").write_text(""), refuse(GOOD)),
        lambda path: (Path("new").mkdir(), refuse(GOOD)),
        lambda path: (os.system("true"), refuse(GOOD)),
        lambda path: refuse(),
        lambda path: refuse(Problem("", "must be right")),
        lambda path: refuse(Problem("name", "")),
        lambda path: refuse(GOOD, source=""),
        lambda path: refuse(GOOD, GOOD, source="s.yaml\n"),
    ],
)
def test_the_campaign_sees_what_it_looks_for(
    reader: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fates, "load_study", reader)
    with pytest.raises(AssertionError):
        fate(FILE, b"")
    monkeypatch.setattr(fates, "load_study", lambda path: refuse(GOOD))
    assert not fate(FILE, b"").valid


@pytest.mark.parametrize("error", [KeyError, RecursionError, UnicodeError, TypeError])
def test_the_campaign_lets_no_other_error_pass(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise error("of the reader")

    monkeypatch.setattr(fates, "load_study", fail)
    with pytest.raises(error, match="of the reader"):
        fate(FILE, b"")


def test_the_campaign_sees_what_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(path: Path) -> None:
        end = time.process_time() + 1.1 * SECONDS
        while time.process_time() < end:
            pass
        refuse(Problem("name", "must be right"))

    monkeypatch.setattr(fates, "load_study", slow)
    assert fate(FILE, b"").seconds > SECONDS


# -- messages ------------------------------------------------------------------------------------


def test_a_message_is_short_and_can_be_printed() -> None:
    problems = [
        Problem("k\x1b" * 500, "must \x07 " * 5_000, "v\n" * 5_000, "") for _ in range(900)
    ]
    error = ConfigError(problems, "a\nb\ud800.yaml")
    lines = str(error).split("\n")
    assert len(lines) == 51
    assert lines[-1] == "a\\nb\\ud800.yaml: and 850 more"
    assert all(line.isprintable() and len(line) < 10_000 for line in lines)
    assert lines[0].startswith("a\\nb\\ud800.yaml: k\\x1bk\\x1b")
    assert len(error.problems) == 900


def test_a_message_of_fifty_problems_tells_all_of_them() -> None:
    lines = str(ConfigError([Problem(f"k{n}", "must be") for n in range(50)])).split("\n")
    assert lines == [f"k{n}: must be" for n in range(50)]


def test_a_key_that_is_empty_is_shown() -> None:
    FILE.write_text(EVERYTHING + "'': 1\n")
    with pytest.raises(ConfigError, match=r"^s\.yaml: '': unknown key, got 1$"):
        load_study(FILE)
    FILE.write_text(EVERYTHING.replace("slope: 0.1", "'': 1"))
    with pytest.raises(ConfigError, match=r"^s\.yaml: base\.network\.'': unknown key, got 1$"):
        load_study(FILE)


# -- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"storage": '"a\\0b"'}, "storage: must not hold control characters, got 'a\\x00b'"),
        ({"storage": '"a\\ud800"'}, "storage: must not hold control characters, got 'a\\ud800'"),
        ({"storage": "~nobody-at-all/x"}, "storage: must lie in a folder; there is no such home"),
        (
            {"storage": "x" * 300},
            "storage: must be a path that can be used (File name too long)",
        ),
        (
            {"tracking.uri": f"sqlite:///{'x' * 300}"},
            "tracking.uri: must be a path that can be used (File name too long)",
        ),
        (
            {"tracking.experiment": '"a\\nb"'},
            "tracking.experiment: must be a name of 1 to 250 characters that can be printed",
        ),
        ({"tracking.experiment": "' a'"}, "tracking.experiment: must be a name of 1 to 250"),
        ({"tracking.experiment": "x" * 251}, "tracking.experiment: must be a name of 1 to 250"),
        ({"tracking.uri": '"sqlite:///a\\0b"'}, "tracking.uri: must be a database or a server"),
        ({"tracking.uri": "ftp://x"}, "tracking.uri: must be a database or a server"),
        ({"tracking.uri": "sqlite:///"}, "tracking.uri: must name a file after sqlite:///"),
        ({"tracking.uri": "sqlite:///."}, "tracking.uri: must name a file after sqlite:///"),
        ({"name": "../elsewhere"}, "name: must be a word of letters, digits"),
        ({"name": "/tmp"}, "name: must be a word of letters, digits"),
        ({"name": "ｓｗｅｅｐ"}, "name: must be a word of letters, digits"),
        ({"name": "swеep"}, "name: must be a word of letters, digits"),
        ({"name": '"sweep\\n"'}, "name: must be a word of letters, digits"),
        (
            {"base.data": '{name: array, path: "a\\0b"}'},
            "base.data.path: must be a path without control characters",
        ),
        (
            {"base.data": "{name: array, path: ~nobody-at-all/x}"},
            "base.data.path: must be a path that can be read (Could not determine home",
        ),
        (
            {"base.data": f"{{name: array, path: {'x' * 300}}}"},
            "base.data.path: must be a path that can be read (File name too long)",
        ),
        (
            {"base.network": "{name: 'os:system', arguments: {command: touch ran}}"},
            "base.network.name: must be a module of your own, not one of Python's library",
        ),
        ({"base.network": "'a/../b:c'"}, "base.network.name: must match pattern"),
        ({"base.device": "cuda:٣"}, "base.device: must match pattern"),
    ],
)
def test_a_name_leads_nowhere_else(change: dict[str, str], message: str) -> None:
    FILE.write_text(EVERYTHING)
    with pytest.raises(ConfigError) as caught:
        load_study(FILE, change)
    assert f"s.yaml: {message}" in str(caught.value)
    assert [path.name for path in Path().iterdir()] == ["s.yaml"]


def test_a_name_of_a_network_may_be_any_other_module() -> None:
    FILE.write_text(EVERYTHING)
    spec = load_study(FILE, {"base.network": "'ossuary.net:Net'"})
    assert spec.base["network"] == "ossuary.net:Net"


# -- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"parameters.epsilon": f"{{distribution: choice, values: {list(range(1, 502))}}}"},
            "parameters: must not hold more than 500 values in all, got 503",
        ),
        (
            {"constraints": str(["r <= 1"] * 101)},
            "constraints: must not have more than 100 entries, got 101",
        ),
        ({"constraints": "['r <= 1e999']"}, "constraints.0: must compare with a finite number"),
        (
            {"parameters.epsilon": "{distribution: loguniform, min: 1e-300, max: 1e200}"},
            "parameters.epsilon.max: is too far from min=1e-300, got 1e+200",
        ),
        (
            {"parameters.epsilon": "{distribution: quniform, min: 0.1, max: 0.2, q: 1e-300}"},
            "parameters.epsilon.q: must be at least a 1,000,000,000th of min and max, got 1e-300",
        ),
        (
            {"parameters.langevin_steps": "{distribution: randint, min: 1, max: 2000000000}"},
            "parameters.langevin_steps.max: must be at most 1,000,000,000 over min=1 for randint",
        ),
        ({"base.updates": "2147483648"}, "base.updates: must be less than or equal to 2147483647"),
        (
            {"base.network": f"{{name: mlp, widths: {[1] * 101}}}"},
            "base.network.widths: must not have more than 100 entries",
        ),
        ({"base.init_scale": "-" + "9" * 300}, "base.init_scale: must be a number greater than 0"),
        ({"trials": "1" * 301}, "trials: must be YAML; line 1, column 1: must not have more than"),
        ({".".join("a" * 60): "1"}, "must not be nested more than 50 deep"),
        ({"seeds": "[" * 60}, "seeds: must be YAML; line 1, column 51: must not be nested more"),
    ],
)
def test_there_is_an_end_to_everything(changes: dict[str, str], message: str) -> None:
    FILE.write_text(EVERYTHING)
    with pytest.raises(ConfigError) as caught:
        load_study(FILE, changes)
    assert message in str(caught.value)


def test_a_file_without_an_end_is_not_read_to_it() -> None:
    with pytest.raises(
        ConfigError, match=r"must not be larger than 64,000 bytes, got '/dev/zero'"
    ):
        load_study("/dev/zero")
    with pytest.raises(ConfigError, match=r"must be a readable file \(embedded null byte\)"):
        read_document("a\0b")


# -- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\0", b"[" * 10_000, b"name: a\nname: b\n"])
def test_the_command_refuses_in_words(content: bytes) -> None:
    FILE.write_bytes(content)
    began = time.perf_counter()
    command = [sys.executable, "-m", "study.run", "s.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    told = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    # three seconds on a machine of its own; here others share it
    assert time.perf_counter() - began < 10
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.startswith("s.yaml: must be ")
    assert "Traceback" not in told.stderr
    assert [path.name for path in Path().iterdir()] == ["s.yaml"]
