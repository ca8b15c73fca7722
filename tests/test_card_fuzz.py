"""Cards and files that mean ill, or are noise: read or refused, in bounded memory and time."""

from __future__ import annotations

import copy
import json
import math
import re
import shutil
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from climdown.config import NetworkConfig
from climdown.diffusion.unet import UNet
from climdown.errors import PriorError
from climdown.files import file_digest
from climdown.priors import bounds, build
from climdown.priors.card import CARD_FILE, FIELDS_FILE, MODEL_FILE, Card, check_card, read_card
from climdown.priors.prior import Prior, read_prior

Entries = dict[str, Any]
MOST_BYTES = 48 << 20
MOST_SECONDS = 5.0


@contextmanager
def bounded() -> Iterator[None]:
    """Fails if what is inside takes much memory or time of a processor."""
    tracemalloc.start()
    begun = time.process_time()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST_BYTES
    assert time.process_time() - begun < MOST_SECONDS


def entries_of(prior: Prior) -> Entries:
    entries: Entries = json.loads(prior.card.to_json())
    return entries


def deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


# What an attacker would write for a number, a text, a list.
NASTY: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(0, -1, 1, 2**31, 2**63, -(2**63), 10**18, 10**300, 10**400, 0.0, -0.0, 1e-320, 1e308),
        *(math.nan, math.inf, -math.inf, None, True, False, "", "x" * 100_000),
        *("../../../etc/passwd", "/etc/passwd", "..", ".", "a/b", "\0", "\x1b[2J", "\ud800", "\n"),
        *("nan", "1e999", "__class__", "pickle", "{0.__init__}", "%s%n", "card.json"),
        *([], {}, [[]], [{}], [None], {"": {}}, [0] * 10_000, [1e9, 1e9], ["x"] * 100),
        {"kind": "anomaly", "field": "../mask"},
        {"kind": "exec", "code": "import os"},
        {str(i): i for i in range(1000)},
    ]
)
ANYTHING = st.recursive(
    NASTY | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a card, whatever its depth."""
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from places(node[key])


def mutate(entries: Entries, data: st.DataObject) -> Entries:
    """A card with one to three entries replaced, removed, doubled, exchanged or added."""
    entries = copy.deepcopy(entries)
    for _ in range(data.draw(st.integers(1, 3))):
        everywhere = list(places(entries))
        # Few places are entries, most are numbers of the grid: draw among the entries first.
        rare = [place for place in everywhere if isinstance(place[0], dict)]
        node, key = data.draw(st.sampled_from(rare) | st.sampled_from(everywhere))
        action = data.draw(st.sampled_from(["set", "remove", "double", "exchange", "add"]))
        if action == "set":
            node[key] = copy.deepcopy(data.draw(ANYTHING))
        elif action == "remove":
            del node[key]
        elif action == "double" and isinstance(node, list):
            node += copy.deepcopy(node)
        elif action == "exchange":
            other, place = data.draw(st.sampled_from(rare))
            node[key] = copy.deepcopy(other.get(place))
        elif isinstance(node, dict):
            node[data.draw(st.text(max_size=5))] = copy.deepcopy(data.draw(ANYTHING))
    return entries


def check_line(line: str, folder: Path) -> None:
    """What is said of a card is one line, short, and safe to print."""
    assert len(line) < 500 + len(str(folder))
    assert bounds._is_clean(line)
    assert "\n" not in line


def files_beside(folder: Path, prior: Prior) -> None:
    for name in (MODEL_FILE, FIELDS_FILE):
        (folder / name).symlink_to(prior.folder / name)


@given(data=st.data())
@settings(max_examples=400)
def test_any_mutation_of_a_card_is_read_or_refused(
    data: st.DataObject, tiny_prior: Prior, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = json.dumps(mutate(entries_of(tiny_prior), data))
    folder = tmp_path_factory.mktemp("fuzz")
    files_beside(folder, tiny_prior)
    (folder / CARD_FILE).write_text(text, encoding="utf-8")
    with bounded():
        try:
            prior = read_prior(folder)
            transforms = prior.transforms
        except PriorError as error:
            check_line(str(error), folder)
            return
    # What got through is a card like any other.
    card = prior.card
    assert set(transforms) == {variable.name for variable in card.variables}
    assert Card.from_json(card.to_json()).to_json() == card.to_json()
    assert card.coarse_grid.shape <= card.grid.shape
    assert prior.mask.shape == (len(card.variables), *card.grid.shape)
    # Weights fit, or are refused before a network is made that they cannot fill.
    assert build._least_weights(card.network) < 1e12
    try:
        parameters = sum(p.numel() for p in prior.denoiser().parameters())
    except PriorError:
        return
    assert parameters == sum(p.numel() for p in tiny_prior.denoiser().parameters())


@given(
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 40), st.binary(max_size=40)),
        min_size=1,
        max_size=4,
    )
)
@example(edits=[(0.0, 0, b"[" * 40)])
@example(edits=[(0.5, 0, b"\xff")])
@settings(max_examples=250)
def test_any_damage_of_the_text_is_read_or_refused(
    edits: list[tuple[float, int, bytes]],
    tiny_prior: Prior,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    content = (tiny_prior.folder / CARD_FILE).read_bytes()
    for place, length, replacement in edits:
        at = int(place * len(content))
        content = content[:at] + replacement + content[at + length :]
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / CARD_FILE).write_bytes(content)
    with bounded():
        try:
            card = read_card(folder)
        except PriorError:
            return
    assert Card.from_json(card.to_json()).to_json() == card.to_json()


@given(
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=3
    ),
    size=st.none() | st.integers(0, 2**64 - 1),
)
@example(edits=[(0.0, 0, b"")], size=2**63)
@settings(max_examples=200)
def test_any_damage_of_a_signed_file_is_read_or_refused(
    edits: list[tuple[float, int, bytes]],
    size: int | None,
    tiny_prior: Prior,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    content = (tiny_prior.folder / FIELDS_FILE).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, rest = content[8 : 8 + length], content[8 + length :]
    for place, cut, replacement in edits:
        at = int(place * len(header))
        header = header[:at] + replacement + header[at + cut :]
    damaged = struct.pack("<Q", len(header) if size is None else size) + header + rest
    folder = signed(tmp_path_factory.mktemp("fuzz"), tiny_prior, {FIELDS_FILE: damaged})
    with bounded():
        try:
            prior = read_prior(folder)
            _ = prior.transforms
        except PriorError:
            return
    assert prior.mask.shape == (2, *prior.card.grid.shape)


def signed(folder: Path, prior: Prior, files: dict[str, bytes]) -> Path:
    """A prior with other files and a card that vouches for them."""
    entries = entries_of(prior)
    for name in (MODEL_FILE, FIELDS_FILE):
        if name in files:
            (folder / name).write_bytes(files[name])
        else:
            shutil.copy(prior.folder / name, folder / name)
        entries["files"][name] = file_digest(folder / name)
    (folder / CARD_FILE).write_text(json.dumps(entries), encoding="utf-8")
    return folder


# --- attacks by name


def _set(*path: Any) -> Callable[[Any], None]:
    """A change that sets the entry at path[:-1] to path[-1]."""

    def change(entries: Any) -> None:
        for key in path[:-2]:
            entries = entries[key]
        entries[path[-2]] = path[-1]

    return change


def _repeat(name: str, count: int) -> Callable[[Any], None]:
    def change(entries: Any) -> None:
        entries[name] = [
            {**entries[name][0], "name": str(i)} if name == "variables" else str(i)
            for i in range(count)
        ]

    return change


def _twice(entries: Any) -> None:
    entries["variables"][1]["name"] = entries["variables"][0]["name"]


def _large_grid(entries: Any) -> None:
    edges = [round(i * 0.01, 2) for i in range(9001)]
    centres = [round(i * 0.01 + 0.005, 3) for i in range(9000)]
    entries["grid"] = {"lat": centres, "lon": centres, "lat_edges": edges, "lon_edges": edges}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_large_grid, r"the number of cells of the grid is 8\.1e\+07; expected 1 to"),
        (_repeat("variables", 65), "the number of variables is 65; expected 1 to 64"),
        (_repeat("statics", 65), "the number of statics is 65; expected 0 to 64"),
        (_twice, r"variables \['tas', 'tas'\] are not all different"),
        (_set("network", "channels", [8] * 9), r"the number of network\.channels is 9"),
        (_set("network", "channels", [8, 1 << 20]), r"network\.channels is 1\.049e\+06"),
        (_set("network", "blocks", 10**9), r"network\.blocks is 1e\+09; expected 1 to 16"),
        (_set("network", "blocks", -1), r"network\.blocks is -1; need at least 1"),
        (_set("network", "embedding", 10**12), r"network\.embedding is 1e\+12"),
        (_set("network", "attention", 99), r"network\.attention is 99; expected 0 to 8"),
        (_set("network", "patterns", 10**6), r"network\.patterns is 1e\+06"),
        (_set("network", "tile", -4), r"network\.tile is -4; need at least 0"),
        (_set("network", "heads", 2**14), r"network\.channels ends in 8, not divisible"),
        (_set("sampling", "steps", 10**9), r"sampling\.steps is 1e\+09; expected 1 to 10000"),
        (_set("sampling", "sigma_max", math.inf), r"sampling\.sigma_max is inf"),
        (_set("sampling", "guidance_scale", math.nan), r"guidance_scale is nan; .* finite"),
        (_set("variables", 0, "minimum", math.nan), r"variables\[0\]\.minimum is nan"),
        (_set("variables", 0, "standard_names", []), r"variables\[0\]\.standard_names is empty"),
        (_set("variables", 0, "name", "../x"), r"variables\[0\]\.name is '\.\./x'"),
        (_set("variables", 0, "transform", [{}] * 9), r"length of .*transform is 9"),
        (_set("variables", 0, "transform", [{"mean": math.inf}]), "'mean' is no finite number"),
        (_set("variables", 0, "transform", [{"std": "nan"}]), "'std' is no finite number"),
        (_set("variables", 0, "transform", [{"field": [1]}]), "'field' is not a text"),
        (_set("variables", 0, "transform", [{"mean": 10**400}]), "too large"),
        (_set("name", ".."), r"name is '\.\.'; expected 1 to 100 characters without slashes"),
        (_set("name", "a/b"), "name is 'a/b'"),
        (_set("name", ""), "name is ''"),
        (_set("name", "x" * 101), "expected 1 to 100 characters"),
        (_set("title", "\x1b]0;owned\x07"), r"'\\x1b\]0;owned\\x07' holds characters"),
        (_set("licence", "\ud800"), r"'\\ud800' holds characters that are no text"),
        (_set("training", {"\x9b1m": 0}), "holds characters that are no text"),
        (_set("training", {"deep": deep(40)}), "nested more than 32 deep"),
        (_set("months", [1, 13]), r"months is \[1, 13\]; expected different numbers from 1 to 12"),
        (_set("months", [1, 1]), r"months is \[1, 1\]"),
        (_set("months", []), r"months is \[\]"),
        (_set("coarse_factor", 10**9), "cannot coarsen a grid"),
        (_set("coarse_factor", -4), "cannot coarsen a grid"),
        (_set("step_days", 0), r"step_days is 0\.0; expected a number > 0"),
        (_set("step_days", math.nan), "step_days is nan"),
        (_set("sigma_data", -1), r"sigma_data is -1\.0"),
        (_set("grid", "lat", 3, math.nan), "lat axis has values that are not finite"),
        (_set("grid", "lat", 3, 10**400), "too large"),
        (_set("files", MODEL_FILE, "../x"), r"model\.safetensors has '\.\./x'; expected a SHA-256"),
        (_set("kind", "x" * 10_000), r"entry 'kind' is 'x+\.\.\."),
    ],
)
def test_an_attack_is_refused_in_one_short_line(
    change: Callable[[Any], None], message: str, tiny_prior: Prior
) -> None:
    entries = entries_of(tiny_prior)
    change(entries)
    text = json.dumps(entries)
    assert len(text) < 1 << 20, "small enough to be read"
    with bounded(), pytest.raises(PriorError, match=message) as error:
        Card.from_json(text)
    assert len(str(error.value)) < 400
    assert bounds._is_clean(str(error.value))


@pytest.mark.parametrize("version", [True, 10**4000, 2])
def test_a_format_of_any_size_is_refused_in_one_short_line(version: Any, tiny_prior: Prior) -> None:
    with pytest.raises(PriorError, match="format") as error:
        Card.from_json(json.dumps(entries_of(tiny_prior) | {"format": version}))
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("text", ["[" * 900_000, '{"a":' * 150_000, "[" * 900 + "]" * 900])
def test_nesting_exhausts_nothing(text: str) -> None:
    with bounded(), pytest.raises(PriorError):
        Card.from_json(text)


def test_a_card_may_not_be_a_pipe_a_device_or_endless(tmp_path: Path) -> None:
    (tmp_path / CARD_FILE).symlink_to("/dev/zero")
    with pytest.raises(PriorError, match=r"card\.json is no regular file"):
        read_card(tmp_path)


def test_a_file_beyond_reason_is_not_even_hashed(tmp_path: Path, tiny_prior: Prior) -> None:
    folder = signed(tmp_path, tiny_prior, {})
    with (folder / FIELDS_FILE).open("r+b") as stream:
        stream.truncate(1 << 36)
    with bounded(), pytest.raises(PriorError, match=rf"{FIELDS_FILE} has {1 << 36} bytes; at most"):
        read_prior(folder)


def safetensors(tensors: dict[str, Any], data: bytes = b"") -> bytes:
    """A file with any header."""
    header = json.dumps(tensors).encode()
    return struct.pack("<Q", len(header)) + header + data


def tensor(shape: list[int], size: int, kind: str = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [0, size]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (safetensors({"mask": tensor([10**6, 10**6], 4 * 10**12)}), "does not load"),
        (safetensors({"mask": tensor([2**40, 2**40], 8)}, bytes(8)), "does not load"),
        (safetensors({"mask": tensor([-1], 4)}, bytes(4)), "does not load"),
        (struct.pack("<Q", 2**62), "does not load"),
        (b"", "does not load"),
        (safetensors({"mask": tensor([2], 4, "BF16")}, bytes(4)), "'mask' holds BF16; expected"),
        (safetensors({"mask": tensor([1] * 99, 4)}, bytes(4)), "'mask' has 99 dimensions"),
        (safetensors({"mask": tensor([0, 10**15], 0)}), r"shape \(0, 10+\)|lacks the field"),
    ],
)
def test_a_header_that_claims_anything_takes_no_memory(
    content: bytes, message: str, tmp_path: Path, tiny_prior: Prior
) -> None:
    folder = signed(tmp_path, tiny_prior, {FIELDS_FILE: content})
    with bounded(), pytest.raises(PriorError, match=message):
        read_prior(folder)


@pytest.mark.parametrize(
    "network",
    [
        {"channels": [8192] * 8, "blocks": 16, "heads": 1, "embedding": 8192},
        {"channels": [8, 2048]},
        {"embedding": 8192},
        {"blocks": 16},
    ],
)
def test_a_network_that_the_weights_cannot_fill_is_never_made(
    network: Entries, tmp_path: Path, tiny_prior: Prior, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = signed(tmp_path, tiny_prior, {})
    entries = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
    entries["network"] |= network
    (folder / CARD_FILE).write_text(json.dumps(entries), encoding="utf-8")
    prior = read_prior(folder)

    def never(*_: object) -> None:
        raise AssertionError("the network was made")

    monkeypatch.setattr("climdown.priors.prior.build_denoiser", never)
    with pytest.raises(PriorError, match=r"weights do not load \(found 18170 numbers, the"):
        prior.denoiser()


@given(
    channels=st.lists(st.sampled_from([4, 8, 32, 128]), min_size=1, max_size=4),
    blocks=st.integers(1, 3),
    attention=st.integers(0, 4),
    embedding=st.sampled_from([2, 16, 128]),
)
@settings(max_examples=30)
def test_the_count_of_weights_is_a_close_bound_from_below(
    channels: list[int], blocks: int, attention: int, embedding: int
) -> None:
    network = NetworkConfig(
        channels=tuple(channels), blocks=blocks, attention=attention, embedding=embedding
    )
    sizes = {k: v for k, v in asdict(network).items() if k not in ("patterns", "tile")}
    unet = UNet(variables=2, statics=3, **sizes)
    made = sum(parameter.numel() for parameter in unet.parameters())
    assert build._least_weights(network) < made < 10 * build._least_weights(network)


def test_the_bounds_leave_room_for_the_priors_of_the_recipes(tiny_prior: Prior) -> None:
    # The network of the consistency paper, on all of ERA5 at 0.25 degree.
    network = NetworkConfig(channels=(128, 128, 256, 256), blocks=2, attention=2, heads=4)
    card = replace(tiny_prior.card, network=network, months=tuple(range(1, 13)))
    check_card(card)
    assert bounds.MAX_CELLS / 10 > 721 * 1440
    bounds.check_json(json.loads(card.to_json()))


def test_control_characters_of_a_text_are_found_and_others_are_not() -> None:
    assert bounds._is_clean("Temperatur in °C, 気温\n\ttwo lines")
    for character in map(chr, [*range(9), *range(11, 32), *range(127, 160), 0xD800, 0xDFFF]):
        assert not bounds._is_clean(f"a{character}"), re.escape(character)


def test_nothing_of_a_card_is_executed(tmp_path: Path, tiny_prior: Prior) -> None:
    # A pickle in place of the weights: opened, it would make a file.
    evil = b"cposix\nsystem\n(S'touch " + bytes(tmp_path / "owned") + b"'\ntR."
    folder = signed(tmp_path, tiny_prior, {MODEL_FILE: evil})
    with pytest.raises(PriorError, match="the weights do not load"):
        read_prior(folder).denoiser()
    assert not (tmp_path / "owned").exists()


def test_a_mask_of_numbers_that_are_none_is_refused(tmp_path: Path, tiny_prior: Prior) -> None:
    from safetensors.numpy import save

    fields = {**tiny_prior.fields, "mask": np.full_like(tiny_prior.fields["mask"], np.nan)}
    folder = signed(tmp_path, tiny_prior, {FIELDS_FILE: save(fields)})
    with pytest.raises(PriorError, match="field 'mask' holds 384 numbers that are not finite"):
        read_prior(folder)
