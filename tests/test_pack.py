"""The record of a pack: read back equal, and wrong ones refused with file, key, rule and value."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_core.config import make_config
from ebm_core.document import dump_yaml, read_document
from ebm_core.errors import ConfigError
from ebm_core.pack import Pack, read_pack, write_pack

PLANE = {"data": "gmm", "network": "toy", "epsilon": 0.1, "bank_size": 200, "window": 100}


def packed(*changes, index=0, threads=2, engine_path="closed_form"):
    members = tuple(make_config({**PLANE, **change}) for change in changes)
    return Pack(members, index, threads, engine_path)


PACK = packed({}, {"epsilon": 0.3, "seed": 5, "band": {"unit": "scaled"}}, index=1)


def test_a_pack_is_read_back_equal(tmp_path):
    assert read_pack(write_pack(PACK, tmp_path / "deep" / "pack.yaml")) == PACK
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["pack.yaml"]


@settings(max_examples=25, deadline=None)
@given(
    epsilon=st.floats(1e-12, 1e6),
    rate=st.floats(0, 1e3),
    seed=st.integers(0, 2**31 - 1),
    threads=st.integers(1, 500),
)
def test_every_number_survives(tmp_path_factory, epsilon, rate, seed, threads):
    pack = packed({"epsilon": epsilon, "gamma_0": rate, "seed": seed}, threads=threads)
    assert read_pack(write_pack(pack, tmp_path_factory.mktemp("packs") / "pack.yaml")) == pack


def test_the_file_opens_with_the_command_that_repeats_it(tmp_path):
    path = write_pack(PACK, tmp_path / "pack.yaml")
    assert path.read_text().startswith("# python -m ebm_core train --pack pack.yaml\n")
    assert list(read_document(path)) == ["format", "index", "threads", "engine_path", "members"]


def broken(key, value):
    def change(values):
        *way, last = key.split(".")
        for part in way:
            values = values[int(part) if part.isdigit() else part]
        if value is ...:
            del values[last]
        else:
            values[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (broken("format", 2), r"format: must be .*1.*, got 2"),
        (broken("threads", 0), r"threads: .*, got 0"),
        (broken("threads", ...), r"threads: required"),
        (broken("thread", 1), r"thread: unknown key, got 1; did you mean `threads`"),
        (broken("engine_path", ""), r"engine_path: .*, got ''"),
        (broken("index", 2), r"index: `index < number of members` must hold \(2 members\), got 2"),
        (broken("index", -1), r"index: .*, got -1"),
        (broken("members", []), r"members: a pack needs at least one member"),
        (broken("members", 3), r"members: .*, got 3"),
        (broken("members.1.epsilon", -1.0), r"members\.1\.epsilon: .* 0, got -1\.0"),
        (broken("members.1.epsilo", 1), r"members\.1\.epsilo: unknown key.*`epsilon`"),
        (broken("members.1.updates", 5000), r"members\.1\.updates: must equal that of member 0"),
    ],
)
def test_a_wrong_pack_is_refused_by_file_key_rule_and_value(tmp_path, change, message):
    path = write_pack(PACK, tmp_path / "pack.yaml")
    values = read_document(path)
    change(values)
    path.write_text(dump_yaml(values))
    with pytest.raises(ConfigError, match=rf"pack\.yaml: {message}"):
        read_pack(path)


def test_all_problems_are_told_together(tmp_path):
    path = write_pack(PACK, tmp_path / "pack.yaml")
    values = read_document(path)
    values["index"] = 7
    values["members"][0]["seed"] = -1
    values["members"][1]["epsilon"] = "wide"
    path.write_text(dump_yaml(values))
    with pytest.raises(ConfigError) as caught:
        read_pack(path)
    keys = {problem.key for problem in caught.value.problems}
    assert keys == {"index", "members.0.seed", "members.1.epsilon"}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: must be a readable file"):
        read_pack(tmp_path / "none.yaml")


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_pack(PACK, tmp_path / "pack.yaml")
    monkeypatch.setattr("ebm_core.pack.dump_yaml", lambda values: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_pack(packed({}), path)
    assert read_pack(path) == PACK
    assert [p.name for p in tmp_path.iterdir()] == ["pack.yaml"]
