"""Cards: they come back as written, and damage ends in one clear line."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from climdown.diffusion.denoiser import Denoiser
from climdown.errors import PriorError
from climdown.grid import Grid
from climdown.priors.card import CARD_FILE, FIELDS_FILE, FORMAT, MODEL_FILE, Card
from climdown.priors.prior import Prior, read_prior, write_prior
from tests.priors import FINE, PR, TAS

Entries = dict[str, Any]

# Entries that cards have not always had.
OPTIONAL = {"sigma_min", "lag_correlation"}


def entries_of(prior: Prior) -> Entries:
    entries: Entries = json.loads(prior.card.to_json())
    return entries


def test_a_card_comes_back_from_its_own_text(tiny_prior: Prior) -> None:
    card = tiny_prior.card
    again = Card.from_json(card.to_json())
    assert again.to_json() == card.to_json()
    assert again.variables == (TAS, PR)
    assert again.months == (1, 2, 12)
    assert again.grid.digest == FINE.digest
    assert (again.network, again.sampling) == (card.network, card.sampling)
    assert again.format == FORMAT


def test_the_coarse_grid_follows_from_the_factor(tiny_prior: Prior) -> None:
    assert tiny_prior.card.coarse_grid.digest == Grid.regular(40, 43, -4, 0, 1.0).digest


@pytest.mark.parametrize("text", ["", "{", "not json", "{'name': 1}", "1" * 5000, "[" * 100_000])
def test_text_that_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(PriorError, match="not valid JSON"):
        Card.from_json(text)


@pytest.mark.parametrize("text", ["[]", "3", '"card"', "null"])
def test_json_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(PriorError, match="not a JSON object"):
        Card.from_json(text)


def test_a_newer_format_asks_for_an_upgrade(tiny_prior: Prior) -> None:
    newer = entries_of(tiny_prior) | {"format": FORMAT + 1, "novelty": 1}
    with pytest.raises(PriorError, match=rf"format {FORMAT + 1}; .* up to {FORMAT}: upgrade it"):
        Card.from_json(json.dumps(newer))


@pytest.mark.parametrize("version", [0, -1, "1", None, 1.0])
def test_a_format_that_is_no_positive_number_is_refused(version: Any, tiny_prior: Prior) -> None:
    with pytest.raises(PriorError, match=rf"format is {re.escape(repr(version))}; expected"):
        Card.from_json(json.dumps(entries_of(tiny_prior) | {"format": version}))


@pytest.mark.parametrize("name", sorted(set(Card.__dataclass_fields__) - OPTIONAL))
def test_every_entry_is_needed_and_named_when_missing(name: str, tiny_prior: Prior) -> None:
    entries = entries_of(tiny_prior)
    del entries[name]
    with pytest.raises(PriorError, match=name):
        Card.from_json(json.dumps(entries))


@pytest.mark.parametrize("name", sorted(Card.__dataclass_fields__))
def test_every_entry_of_a_wrong_type_is_named(name: str, tiny_prior: Prior) -> None:
    entries = entries_of(tiny_prior) | {name: {"odd": 1} if name == "variables" else [[]]}
    if name == "training":
        entries[name] = "long"
    with pytest.raises(PriorError, match=name):
        Card.from_json(json.dumps(entries))


def _set(*path: Any) -> Callable[[Entries], None]:
    """A change that sets the entry at path[:-1] to path[-1]."""

    def change(entries: Any) -> None:
        for key in path[:-2]:
            entries = entries[key]
        entries[path[-2]] = path[-1]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("novelty", 1), "unknown entry 'novelty'"),
        (_set("variables", []), "'variables' is empty"),
        (_set("variables", [3]), r"entry 'variables\[0\]' is 3; expected Variable"),
        (_set("variables", 0, "transform", "log"), r"\.transform' is 'log'; expected a list"),
        (_set("variables", 0, "transform", [5]), r"\.transform\[0\]' is 5; expected a table"),
        (_set("variables", 0, "colour", "red"), r"unknown entry 'variables\[0\]\.colour'"),
        (_set("variables", 1, "units", 3), r"entry 'variables\[1\]\.units' is 3; expected str"),
        (_set("kind", "oracle"), "entry 'kind' is 'oracle'; expected 'diffusion' or 'consis"),
        (_set("months", [1, "two"]), r"entry 'months\[1\]' is 'two'; expected int"),
        (_set("network", "heads", 0), "network.heads is 0"),
        (_set("network", "depth", 3), r"unknown entry 'network\.depth'"),
        (_set("grid", "lat", ["north"]), "does not hold numbers"),
        (_set("grid", "lat_edges", [0, 1]), "12 cells but 2 edges"),
        (_set("grid", {}), "lacks the axis 'lat'"),
        (_set("files", {MODEL_FILE: "0"}), f"must name {MODEL_FILE} and {FIELDS_FILE}"),
        (_set("files", "../../etc/passwd", "0"), "must name"),
        (_set("sigma_data", 10**400), "too large"),
        (_set("lag_correlation", {"tas": "much"}), r"'lag_correlation\.tas' is 'much'; expected f"),
        (
            _set("lag_correlation", {"tas": math.nan}),
            r"lag_correlation\.tas is nan; expected -1 to",
        ),
        (
            _set("lag_correlation", {"tas": 1.01}),
            r"lag_correlation\.tas is 1\.01; expected -1 to 1",
        ),
        (
            _set("lag_correlation", {"psl": 0.5}),
            r"lag_correlation names 'psl'; expected of \['tas'",
        ),
    ],
)
def test_a_damaged_entry_is_named(
    change: Callable[[Entries], None], message: str, tiny_prior: Prior
) -> None:
    entries = entries_of(tiny_prior)
    change(entries)
    with pytest.raises(PriorError, match=f"the card is damaged: .*{message}"):
        Card.from_json(json.dumps(entries))


def test_a_card_that_does_not_tell_the_lowest_level_is_one_of_diffusion(tiny_prior: Prior) -> None:
    entries = entries_of(tiny_prior)
    assert entries.pop("sigma_min") == 0.0
    assert Card.from_json(json.dumps(entries)).to_json() == tiny_prior.card.to_json()
    with pytest.raises(
        PriorError, match=r"sigma_min is 0\.0; expected a number > 0 for consistenc"
    ):
        Card.from_json(json.dumps(entries | {"kind": "consistency"}))


def test_a_card_may_tell_how_long_detail_lasts(tiny_prior: Prior) -> None:
    entries = entries_of(tiny_prior)
    assert entries.pop("lag_correlation") == {}
    assert Card.from_json(json.dumps(entries)).to_json() == tiny_prior.card.to_json()
    told = dataclasses.replace(tiny_prior.card, lag_correlation={"tas": 0.5, "pr": -0.1})
    assert Card.from_json(told.to_json()).lag_correlation == {"tas": 0.5, "pr": -0.1}


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("consistency", 0),
        ("consistency", -0.002),
        ("consistency", math.nan),
        ("consistency", math.inf),
        ("diffusion", 0.002),
        ("diffusion", -0.002),
        ("diffusion", math.nan),
    ],
)
def test_kind_and_lowest_level_belong_together(kind: str, level: float, tiny_prior: Prior) -> None:
    entries = entries_of(tiny_prior) | {"kind": kind, "sigma_min": level}
    message = re.escape(f"the card is damaged: sigma_min is {float(level)}; expected a number > 0")
    with pytest.raises(PriorError, match=message):
        Card.from_json(json.dumps(entries))


def test_a_consistency_prior_comes_back_with_its_lowest_level(
    tiny_prior: Prior, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("consistency")
    card = dataclasses.replace(tiny_prior.card, kind="consistency", sigma_min=0.25)
    weights = tiny_prior.denoiser().state_dict()
    written = write_prior(folder, card, weights, tiny_prior.fields, "# consistency\n")
    again = read_prior(folder)
    assert again.card.to_json() == written.card.to_json()
    assert (again.card.kind, again.card.sigma_min) == ("consistency", 0.25)
    model, plain = again.denoiser(), tiny_prior.denoiser()
    assert isinstance(model, Denoiser)
    assert (model.sigma_min, plain.sigma_min) == (0.25, 0.0)
    x = torch.randn(1, 2, *FINE.shape, generator=torch.Generator().manual_seed(0))
    level, calendar = torch.full((1,), 0.25), torch.tensor([[1.0, 15.0, 12.0]])
    assert torch.equal(model(x, level, calendar), x * model.mask)
    assert not torch.allclose(plain(x, level, calendar), x * model.mask, atol=1e-3)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data())
@settings(max_examples=150)
def test_a_card_changed_anywhere_is_read_or_refused_as_a_prior_error(
    data: st.DataObject, tiny_prior: Prior, tmp_path_factory: pytest.TempPathFactory
) -> None:
    entries = node = copy.deepcopy(entries_of(tiny_prior))
    while True:
        key = data.draw(
            st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node)))
        )
        deeper = isinstance(node[key], dict | list) and len(node[key]) > 0
        if not deeper or data.draw(st.booleans()):
            break
        node = node[key]
    if data.draw(st.booleans()):
        node[key] = data.draw(JSON)
    else:
        del node[key]
    folder = tmp_path_factory.mktemp("mutated")
    for name in (MODEL_FILE, FIELDS_FILE):
        (folder / name).symlink_to(tiny_prior.folder / name)
    (folder / CARD_FILE).write_text(json.dumps(entries), encoding="utf-8")
    try:
        prior = read_prior(folder)
        transforms = prior.transforms
    except PriorError:
        return
    # What got through is a card like any other.
    assert set(transforms) == {variable.name for variable in prior.card.variables}
    assert Card.from_json(prior.card.to_json()).to_json() == prior.card.to_json()


@given(cut=st.integers(0, 4000), text=st.text(max_size=5), length=st.integers(0, 5))
@settings(max_examples=100)
def test_a_card_with_some_characters_replaced_never_raises_anything_else(
    cut: int, text: str, length: int, tiny_prior: Prior
) -> None:
    whole = tiny_prior.card.to_json()
    damaged = whole[:cut] + text + whole[cut + length :]
    try:
        card = Card.from_json(damaged)
    except PriorError:
        return
    assert card.to_json().startswith("{")
