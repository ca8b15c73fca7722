"""Transforms: inverses, gradients through them, and the card's description of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from climdown.errors import ConfigError
from climdown.transforms import Anomaly, Chain, Log, Standardise, Transform

CLIMATOLOGY = np.linspace(270.0, 300.0, 12).reshape(3, 4)
CHAINS = {
    "log": Chain((Log(offset=0.5), Standardise(mean=0.7, std=0.9))),
    "anomaly": Chain((Anomaly(CLIMATOLOGY, "tas_mean"), Standardise(mean=0.0, std=8.0))),
    "empty": Chain(()),
}


def amounts() -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(0).gamma(0.4, 20.0, size=(5, 3, 4))


@pytest.mark.parametrize("name", CHAINS)
def test_inverse_undoes_forward_in_numpy(name: str) -> None:
    x, chain = amounts(), CHAINS[name]
    # Anomalies of amounts lose digits against a climatology of some 300.
    np.testing.assert_allclose(chain.inverse(chain.forward(x)), x, rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("name", CHAINS)
def test_torch_gives_the_same_numbers_as_numpy(name: str) -> None:
    x, chain = amounts(), CHAINS[name]
    z = chain.forward(torch.from_numpy(x), torch)
    assert z.dtype == torch.float64
    np.testing.assert_allclose(z.numpy(), chain.forward(x), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(chain.inverse(z, torch).numpy(), x, rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("name", CHAINS)
def test_single_precision_stays_single(name: str) -> None:
    x, chain = amounts().astype(np.float32), CHAINS[name]
    assert chain.inverse(chain.forward(x)).dtype == np.float32
    tensor = torch.from_numpy(x)
    assert chain.inverse(chain.forward(tensor, torch), torch).dtype == torch.float32


@pytest.mark.parametrize("name", CHAINS)
def test_gradients_flow_through_the_inverse(name: str) -> None:
    chain = CHAINS[name]
    z = torch.from_numpy(chain.forward(amounts())).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: chain.inverse(t, torch), (z,))


def test_gradient_of_the_log_inverse_is_its_closed_form() -> None:
    z = torch.linspace(0, 4, 9, dtype=torch.float64, requires_grad=True)
    Log(offset=0.5).inverse(z, torch).sum().backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad, 0.5 * torch.exp(z.detach()), rtol=1e-14, atol=0.0)


@settings(max_examples=50)
@given(x=st.floats(0, 1e4), offset=st.floats(1e-3, 1e2))
def test_log_round_trip_holds_for_any_amount_and_offset(x: float, offset: float) -> None:
    log = Log(offset=offset)
    back = log.inverse(log.forward(np.array([x])))
    # exp amplifies a rounding error of z by z itself, here at most log(1e7) = 16.
    np.testing.assert_allclose(back, [x], rtol=2e-14, atol=1e-300)


def test_log_follows_its_formula_and_takes_negative_amounts_as_none() -> None:
    log = Log(offset=2.0)
    x = np.array([-3.0, -1e-9, 0.0, 2.0, 14.0])
    np.testing.assert_allclose(log.forward(x), [0, 0, 0, np.log(2), np.log(8)], rtol=1e-15)


def test_standardise_follows_its_formula() -> None:
    standardise = Standardise(mean=280.0, std=4.0)
    assert standardise.forward(np.array([276.0, 280.0, 290.0])).tolist() == [-1.0, 0.0, 2.5]


def test_cells_without_a_climatology_are_missing_and_only_those() -> None:
    climatology = CLIMATOLOGY.copy()
    climatology[1, 2] = np.nan
    z = Anomaly(climatology, "mean").forward(np.full((2, 3, 4), 280.0))
    assert np.isnan(z).sum() == 2
    assert np.isnan(z[:, 1, 2]).all()


def test_steps_apply_in_order() -> None:
    chain = Chain((Standardise(mean=1.0, std=2.0), Standardise(mean=-3.0, std=0.5)))
    assert chain.forward(np.array([7.0])).tolist() == [12.0]
    assert chain.inverse(np.array([12.0])).tolist() == [7.0]


def test_without_fields_leaves_differences_unchanged_on_any_grid() -> None:
    chain = CHAINS["anomaly"]
    rest = chain.without_fields()
    assert rest.steps == chain.steps[1:]
    x = amounts()
    difference = chain.forward(x + 4.0) - chain.forward(x)
    np.testing.assert_allclose(rest.forward(x + 4.0) - rest.forward(x), difference, atol=1e-12)


@pytest.mark.parametrize("name", CHAINS)
def test_description_rebuilds_the_chain(name: str) -> None:
    chain = CHAINS[name]
    entries = chain.to_list()
    rebuilt = Chain.from_list(entries, {"tas_mean": CLIMATOLOGY})
    assert rebuilt.to_list() == entries
    np.testing.assert_array_equal(rebuilt.forward(amounts()), chain.forward(amounts()))


def test_description_names_fields_and_holds_none() -> None:
    assert CHAINS["anomaly"].to_list() == [
        {"kind": "anomaly", "field": "tas_mean"},
        {"kind": "standardise", "mean": 0.0, "std": 8.0},
    ]


@pytest.mark.parametrize("offset", [0.0, -1.0, float("nan")])
def test_log_refuses_an_offset_that_is_not_positive(offset: float) -> None:
    with pytest.raises(ConfigError, match=f"log transform needs an offset > 0, found {offset}"):
        Log(offset=offset)


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan")])
def test_standardise_refuses_a_spread_that_is_not_positive(std: float) -> None:
    with pytest.raises(ConfigError, match=f"standardise needs std > 0, found {std}"):
        Standardise(mean=0.0, std=std)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "logit"}, "unknown transform 'logit'; expected log, standardise or anomaly"),
        ({"offset": 1.0}, "unknown transform 'None'"),
        ({"kind": "\n"}, r"unknown transform '\\n'; expected"),
        ({"kind": "log"}, "transform 'log' lacks 'offset'"),
        ({"kind": "standardise", "mean": 0.0}, "transform 'standardise' lacks 'std'"),
        ({"kind": "anomaly", "field": "nowhere"}, "transform 'anomaly' lacks 'nowhere'"),
        ({"kind": "log", "offset": "much"}, "transform 'log' has parameters that are not numbers"),
        ({"kind": "log", "offset": None}, "transform 'log' has parameters that are not numbers"),
        ({"kind": "log", "offset": 0}, "log transform needs an offset > 0"),
    ],
)
def test_wrong_descriptions_are_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Chain.from_list([entry], {})


def test_every_step_satisfies_the_protocol() -> None:
    steps: list[Transform] = [step for chain in CHAINS.values() for step in chain.steps]
    assert {step.kind for step in steps} == {"log", "standardise", "anomaly"}
