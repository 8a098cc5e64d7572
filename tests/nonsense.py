"""Study files that nobody meant, changed by chance in several ways; `fates` has what follows.

Each way is a strategy of bytes, so that it can do to a file what no YAML writer would.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from ebm_core.document import parse_yaml

SPACES = sorted((Path(__file__).parents[1] / "search_spaces").glob("*.yaml"))
# All sections at once, which no study of the above has.
EVERYTHING = """\
name: everything
base:
  preset: gmm_convergent
  data: {name: gmm, modes: 4}
  network: {name: mlp, widths: [16, 16], slope: 0.1}
  updates: 20000
  window: 1000
  band: {low: 0.5, high: 1.5, unit: matched}
  device: cpu
parameters:
  epsilon: {distribution: loguniform, min: 1e-2, max: 0.4, points: 3}
  anneal_updates: {distribution: quniform, min: 0, max: 1000, q: 100}
  optimizer: {distribution: choice, values: [sgd, adam]}
  langevin_steps: {distribution: randint, min: 20, max: 60}
  init_scale: {distribution: constant, value: 2}
method: tpe
metric: [{name: convergence_score, goal: maximize}]
constraints: ["diverged == 0", "r_matched <= 1.4"]
trials: 12
seeds: 1
seed: 3
first_points: [{epsilon: 0.08, anneal_updates: 100, optimizer: sgd, langevin_steps: 30}]
early_stop: {pruner: successive_halving, grace: 4000, interval: 2000, reduction: 3}
long_run: {steps: 200, chains: 64, adjusted_steps: 100}
resources: {cpus_per_trial: 1, gpus_per_trial: 0, members_per_trial: 1, address: local,
  retries: 1, seconds_per_trial: 600, gigabytes_per_trial: 4}
engine: auto
tracking: {uri: "sqlite:///mlflow.db", experiment: mine}
storage: studies
"""
TEXTS = [EVERYTHING, *(path.read_text() for path in SPACES)]
DOCUMENTS: list[dict[str, Any]] = [parse_yaml(text) for text in TEXTS]

Document = dict[str, Any]
Way = tuple[Any, ...]

texts = st.sampled_from(TEXTS)
documents = st.sampled_from(DOCUMENTS).map(copy.deepcopy)


# -- junk ----------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.sampled_from([math.nan, math.inf, -math.inf, 5e-324, 1e-310, 1e308, -1e308, 1e300, 1e-300]),
    st.sampled_from([2**31 - 1, 2**31, 2**53 + 1, 2**63, 2**64, 10**30, -(10**299), 10**400]),
)
WORDS = st.one_of(
    st.text(max_size=8),
    st.text(st.characters(categories=["Cc", "Cf", "Zs", "Zl", "Zp", "So", "Lo"]), max_size=8),
    st.sampled_from(
        ["a\x00b", "a\nb", "\x1b[31mred", "\u202egnp", "\ufeff", "ｓｗｅｅｐ", "swеep"]
    ),
    st.sampled_from(
        [
            "..",
            ".",
            "/",
            "../../etc",
            "/etc/passwd",
            "a/../b",
            "~",
            "~nobody-at-all/x",
            "con",
            "-rf",
        ]
    ),
    st.sampled_from(
        ["auto", "local", "null", "1e-4", "1_000", "12:30", "0x1F", "0o7", "nan", ".inf", "yes"]
    ),
    st.sampled_from(
        ["s3://b", "http://", "sqlite:///", "sqlite:///..", "file:///etc", "ray://x:1"]
    ),
    st.sampled_from(
        ["os:system", "builtins:exec", "torch.nn:Linear", "a..b:c", "digits@99999999"]
    ),
    st.sampled_from(["x" * 300, "x" * 5_000, "é" * 2_000, "1" * 5_000, "🙂" * 500]),
)
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS | st.dates() | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | NUMBERS, inner, max_size=3)
    ),
    max_leaves=6,
)


def ways(tree: Any, above: Way = ()) -> Iterator[Way]:
    """The way to every place of a document but its root."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (*above, key)
        if isinstance(value, dict | list):
            yield from ways(value, (*above, key))


def at(document: Any, way: Way) -> Any:
    for key in way:
        document = document[key]
    return document


def put(document: Document, way: Way, value: Any) -> Document:
    at(document, way[:-1])[way[-1]] = value
    return document


def written(document: Document) -> bytes:
    # in C where there is one: some of these documents are large
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(document, Dumper=dumper, sort_keys=False)
    return text.encode()


# -- mutations of documents ----------------------------------------------------------------------


def _types(draw: st.DrawFn, document: Document) -> Document:
    way = draw(st.sampled_from(list(ways(document))))
    return put(document, way, draw(JUNK))


def _numbers(draw: st.DrawFn, document: Document) -> Document:
    found = [way for way in ways(document) if isinstance(at(document, way), int | float)]
    return put(document, draw(st.sampled_from(found)), draw(NUMBERS)) if found else document


def _words(draw: st.DrawFn, document: Document) -> Document:
    found = [way for way in ways(document) if isinstance(at(document, way), str)]
    return put(document, draw(st.sampled_from(found)), draw(WORDS))


def _keys(draw: st.DrawFn, document: Document) -> Document:
    """A key that is misspelt, added, or missing."""
    way = draw(st.sampled_from([way for way in ways(document) if isinstance(way[-1], str)]))
    place, key = at(document, way[:-1]), way[-1]
    value = place.pop(key)
    cut = draw(st.integers(0, len(key)))
    misspelt = [key[:cut] + key[cut + 1 :], key[:cut] + "x" + key[cut:], key.upper(), key + "s"]
    new = draw(st.sampled_from([None, *misspelt]) | WORDS | NUMBERS)
    if new is not None:
        place[new] = value
    if draw(st.booleans()):
        place.setdefault(key, value)
    return document


def _ranges(draw: st.DrawFn, document: Document) -> Document:
    """A distribution whose parts do not fit together, or not to its field."""
    names = [*document["parameters"], *document["parameters"], "updates", "window", "network"]
    name = draw(st.sampled_from(names))
    kinds = "uniform loguniform quniform qloguniform randint choice grid constant"
    numbers = st.sampled_from([-1, 0, 1e-9, 0.1, 1, 2.5, 7, 100, 1e9, 2**40]) | NUMBERS
    fields = {
        "min": numbers,
        "max": numbers,
        "q": numbers,
        "points": numbers,
        "value": JUNK,
        "values": st.lists(numbers | WORDS, max_size=4),
    }
    ends = st.fixed_dictionaries({"min": st.just(0.01), "max": st.sampled_from([0.1, 1, 100])})
    start = draw(st.just(document["parameters"].get(name, {})) | ends)
    key = draw(st.sampled_from([*fields, "distribution"]))
    value = draw(st.sampled_from(kinds.split()) if key == "distribution" else fields[key])
    document["parameters"][name] = {"distribution": "uniform", **start, key: value}
    return document


def _sections(draw: st.DrawFn, document: Document) -> Document:
    """A section made up of its own words, with few of the values that go with them."""
    small = st.sampled_from([0, 1, 2, 3, 100, 4_000, 10**6, 0.5, -1, None, True]) | NUMBERS
    hosts = ["local", "auto", "h:1", "h:0", "h", "[::1]:6379", "ray://h:1", "10.0.0.1:6379", "h:x"]
    options: dict[str, dict[str, Any]] = {
        "early_stop": {
            "pruner": st.sampled_from(["median", "successive_halving", "hyperband", "asha"]),
            "grace": small,
            "interval": small,
            "reduction": small,
            "startup_trials": small,
        },
        "resources": {
            "cpus_per_trial": small | st.just("auto"),
            "gpus_per_trial": small,
            "members_per_trial": small | st.just("auto"),
            "address": st.sampled_from(hosts) | WORDS,
            "retries": small,
            "seconds_per_trial": small,
            "gigabytes_per_trial": small,
        },
        "long_run": {"steps": small, "chains": small, "adjusted_steps": small},
        "tracking": {"uri": WORDS | st.just("http://host"), "experiment": WORDS},
        "metric": {"name": st.sampled_from(["r", "kl", "seconds", "d"]) | WORDS, "goal": WORDS},
    }
    name = draw(st.sampled_from(list(options)))
    document[name] = draw(st.fixed_dictionaries({}, optional=options[name]))
    return document


def _sizes(draw: st.DrawFn, document: Document) -> Document:
    """More of something than anybody needs."""
    n = draw(st.sampled_from([51, 100, 300, 1_000, 5_000]))
    many: dict[str, Any] = {
        "parameters": {f"epsilon{k}": {"distribution": "uniform"} for k in range(n)},
        "constraints": [f"epsilo{k} <= {k}" for k in range(n)],
        "first_points": [{"epsilon": 0.05 + k / 1e6} for k in range(n)],
        "metric": [{"name": f"r{k}", "goal": "maximize"} for k in range(n)],
        "resources": {f"cpus{k}": k for k in range(n)},
        "early_stop": ["[" * n],
        "storage": "/".join(["deep"] * n),
        "name": "n" * n,
    }
    key = draw(st.sampled_from([*many, "unknown", "base", "values", "choices", "widths"]))
    if key == "unknown":
        return {**document, **{f"key{k}": k for k in range(n)}}
    if key == "base":
        return put(
            document, ("base",), {**document["base"], **{f"epsilo{k}": k for k in range(n)}}
        )
    if key == "widths":
        network = {"name": "mlp", "widths": [-k for k in range(n)]}
        return put(document, ("base", "network"), network)
    values = {"distribution": "choice", "values": [0.01 + k / 1e6 for k in range(n)]}
    if key == "values":
        return put(document, ("parameters", "epsilon"), values)
    if key == "choices":
        names = ["epsilon", "eps_data_ratio", "gamma_0", "init_scale", "reinit_share"]
        return put(document, ("parameters",), dict.fromkeys(names, values))
    return put(document, (key,), many[key])


_ON_DOCUMENTS: dict[str, Callable[[st.DrawFn, Document], Document]] = {
    "types": _types,
    "numbers": _numbers,
    "words": _words,
    "keys": _keys,
    "ranges": _ranges,
    "sections": _sections,
    "sizes": _sizes,
}


@st.composite
def _changed(draw: st.DrawFn, change: Callable[[st.DrawFn, Document], Document]) -> bytes:
    return written(change(draw, draw(documents)))


@st.composite
def _mixed(draw: st.DrawFn) -> bytes:
    """Several changes to one document."""
    document = draw(documents)
    for _ in range(draw(st.integers(2, 5))):
        names = ["types", "numbers", "words", "keys", "ranges", "sections"]
        change = _ON_DOCUMENTS[draw(st.sampled_from(names))]
        try:
            document = change(draw, document)
        except (KeyError, TypeError, AttributeError):
            continue  # an earlier change took away what this one looks for
    return written(document)


# -- mutations of text ---------------------------------------------------------------------------


@st.composite
def _characters(draw: st.DrawFn) -> bytes:
    """Pieces of the text cut out, doubled, moved or overwritten."""
    content = draw(texts).encode()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 40)))
        piece = draw(
            st.sampled_from([b"", content[start:end] * 2]) | st.text(max_size=4).map(str.encode)
        )
        content = content[:start] + piece + content[end:]
    return content


@st.composite
def _punctuation(draw: st.DrawFn) -> bytes:
    """YAML's own signs in places where they mean something else."""
    content = draw(texts)
    signs = [*":-?,[]{}#&*!|>'\"%@`~\t\n =<", "---\n", "...\n", "<<: ", "%YAML 9.9\n", "\\x"]
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(content)))
        content = content[:place] + draw(st.sampled_from(signs)) + content[place:]
    return content.encode()


@st.composite
def _encodings(draw: st.DrawFn) -> bytes:
    """Files from other editors, and files that are no text."""
    content = draw(texts)
    newline = draw(st.sampled_from(["\n", "\r\n", "\r", "\x85", "\u2028", "\0", "\x0c"]))
    codec = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp500"]))
    whole = content.replace("\n", newline).encode(codec, errors="replace")
    others = [
        b"",
        b" ",
        b"\n" * 60_000,
        b"\t",
        b"#",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"---",
        b"\0" * 99,
    ]
    return draw(st.just(whole) | st.sampled_from(others) | st.binary(max_size=200))


@st.composite
def _aliases(draw: st.DrawFn) -> bytes:
    """Anchors, merge keys, bombs, and what contains itself."""
    n, wide = draw(st.integers(1, 40)), draw(st.integers(1, 12))
    bomb = "a0: &a0 [1, 2]\n" + "".join(
        f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * wide)}]\n" for k in range(1, n)
    )
    merges = "m0: &m0 {x: 1}\n" + "".join(
        f"m{k}: &m{k} {{<<: [{', '.join([f'*m{k - 1}'] * wide)}]}}\n" for k in range(1, n)
    )
    parts = [
        bomb,
        merges,
        "loop: &loop [*loop]\n",
        "loop: &loop {a: {b: *loop}}\n",
        "loop: &loop {<<: *loop}\n",
        "far: *nowhere\n",
        "two: [&x 1, &x 2, *x]\n",
        "<<: {trials: 3}\n",
        "<<: [{seeds: 2}, {seeds: 3}]\n",
        "<<: 3\n",
        "key: &k v\n*k : v\n",
        "&a a: &b b\n*b : *a\n",
    ]
    chosen = draw(st.lists(st.sampled_from(parts), min_size=1, max_size=2, unique=True))
    content = draw(texts)
    shared = content.replace("parameters:", "parameters: &p", 1) + "first_points: [*p, *p]\n"
    return (draw(st.sampled_from([content, shared])) + "".join(chosen)).encode()


@st.composite
def _nesting(draw: st.DrawFn) -> bytes:
    """Up to 10,000 brackets, closed or not."""
    depth = draw(st.sampled_from([10, 49, 51, 120, 1_000, 10_000]))
    opened, closed = draw(
        st.sampled_from(
            [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", ""), ("[{a: ", "}]"), ("!!seq [", "]")]
        )
    )
    tail = closed * draw(st.sampled_from([0, depth]))
    key = draw(st.sampled_from(["", "name: ", "base: ", "base: {network: ", "new: ", "metric: "]))
    nest = f"{key}{opened * depth}1{tail}{'}' if key.endswith('network: ') else ''}\n"
    return (draw(st.sampled_from(["", "seeds: 1\n"])) + nest).encode()


@st.composite
def _tags(draw: st.DrawFn) -> bytes:
    """Types that YAML knows or does not, on values that are none of them."""
    values = [
        "x",
        "''",
        "1",
        "[a]",
        "{a: 1}",
        "[a: 1]",
        "nan",
        "1:99",
        "0x",
        "2024-13-45",
        "'\\n'",
    ]
    tags = [
        "int",
        "float",
        "bool",
        "null",
        "str",
        "timestamp",
        "binary",
        "set",
        "omap",
        "pairs",
        "seq",
        "map",
        "merge",
        "value",
        "yaml",
    ]
    tags = [f"!!{each}" for each in tags] + [
        "!!python/object/apply:os.system",
        "!!python/object:study.spec.StudySpec",
        "!!python/name:os.getcwd",
        "!!python/tuple",
        "!mine",
        "!",
        "!<tag:yaml.org,2002:int>",
        "!!" + "t" * 5_000,
    ]
    line = draw(st.sampled_from([line for line in EVERYTHING.splitlines() if ": " in line]))
    key = line.partition(":")[0]
    tagged = f"{key}: {draw(st.sampled_from(tags))} {draw(st.sampled_from(values))}"
    return EVERYTHING.replace(line, tagged, 1).encode()


@st.composite
def _duplicates(draw: st.DrawFn) -> bytes:
    """Lines, blocks or whole documents that are there twice."""
    lines = draw(texts).splitlines(keepends=True)
    start = draw(st.integers(0, len(lines) - 1))
    end = draw(st.integers(start + 1, len(lines)))
    between = draw(st.sampled_from(["", "---\n", "...\n", "# again\n"]))
    place = draw(st.sampled_from([end, len(lines)]))
    return "".join([*lines[:place], between, *lines[start:end], *lines[place:]]).encode()


@st.composite
def _long(draw: st.DrawFn) -> bytes:
    """One thing that is very long: what a regular expression or a message would choke on."""
    n = draw(st.sampled_from([1_000, 10_000, 60_000, 70_000]))
    unit = draw(
        st.sampled_from(["x", "1", "1_", "1:", "-", ".", "e1", "\\n", " a", "'", "é", "0x", "#"])
    )
    row = (unit * n)[:n]
    forms = ["{}", "'{}'", '"{}"', "[{}]", "{}x", "0.{}", "1e{}", "!{} 1", "&{} 1", "*{}", "| {}"]
    value = draw(st.sampled_from(forms)).replace("{}", row)
    key = draw(
        st.sampled_from(["name", "trials", "storage", "method", "constraints", "seed", row])
    )
    return f"{key}: {value}\n{draw(st.sampled_from(['', EVERYTHING]))}".encode()


KINDS: dict[str, st.SearchStrategy[bytes]] = {
    **{name: _changed(change) for name, change in _ON_DOCUMENTS.items()},
    "mixed": _mixed(),
    "characters": _characters(),
    "punctuation": _punctuation(),
    "encodings": _encodings(),
    "aliases": _aliases(),
    "nesting": _nesting(),
    "tags": _tags(),
    "duplicates": _duplicates(),
    "long": _long(),
}
