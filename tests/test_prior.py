"""Priors on disk: files, hashes, fields and weights, whole or refused."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from climdown.errors import OutputError, PriorError
from climdown.files import file_digest
from climdown.priors.build import build_denoiser
from climdown.priors.card import CARD_FILE, FIELDS_FILE, MODEL_FILE, README_FILE, Card, read_card
from climdown.priors.prior import Prior, read_prior, write_prior
from climdown.transforms import Chain
from tests.priors import FINE, TAS, write_tiny_prior


@pytest.fixture
def folder(tmp_path: Path, tiny_prior: Prior) -> Path:
    """A copy of the tiny prior, to damage."""
    shutil.copytree(tiny_prior.folder, tmp_path / "tiny")
    return tmp_path / "tiny"


def rewrite_fields(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the fields of a prior and the hash on its card with them."""
    path = folder / FIELDS_FILE
    fields = load_file(path)
    change(fields)
    save_file(fields, path)
    sign(folder, FIELDS_FILE)


def sign(folder: Path, name: str) -> None:
    card = folder / CARD_FILE
    entries = json.loads(card.read_text(encoding="utf-8"))
    entries["files"][name] = file_digest(folder / name)
    card.write_text(json.dumps(entries), encoding="utf-8")


def test_a_prior_comes_back_from_disk_bit_for_bit(tmp_path: Path) -> None:
    written = write_tiny_prior(tmp_path / "tiny", seed=5)
    read = read_prior(tmp_path / "tiny")
    assert read.digest == written.digest == file_digest(tmp_path / "tiny" / CARD_FILE)
    assert set(read.fields) == {"mask", "orography", "land_fraction", "climatology_tas"}
    for name, values in written.fields.items():
        np.testing.assert_array_equal(read.fields[name], values)
    weights = written.denoiser().state_dict()
    for name, tensor in read.denoiser().state_dict().items():
        assert torch.equal(tensor, weights[name])
    assert (tmp_path / "tiny" / README_FILE).read_text(encoding="utf-8") == "# tiny\n"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_files_of_a_prior_obey_the_umask(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        folder = write_tiny_prior(tmp_path / "tiny").folder
        write_tiny_prior(tmp_path / "tiny", seed=1)  # and those that take the place of others
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == dict.fromkeys((CARD_FILE, FIELDS_FILE, MODEL_FILE, README_FILE), mode)


def test_a_prior_that_cannot_be_written_gets_no_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(_: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full_disk)
    with pytest.raises(OutputError, match=rf"cannot write .*{FIELDS_FILE}: No space left"):
        write_tiny_prior(tmp_path / "tiny")
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == [MODEL_FILE]


def test_quantiles_come_back_from_disk_bit_for_bit(tmp_path: Path) -> None:
    written = write_tiny_prior(tmp_path / "tiny", quantiles=True)
    read = read_prior(tmp_path / "tiny")
    for name, count in (("tas", 100), ("pr", 500)):
        values = read.quantiles(name)
        assert values is not None
        assert values.shape == (4, count, *read.card.coarse_grid.shape)
        np.testing.assert_array_equal(values, written.fields[f"quantiles_{name}"])
    # Months in the card's order, then all of them.
    tas = read.quantiles("tas")
    assert tas is not None
    assert read.card.months == (1, 2, 12)
    np.testing.assert_allclose(tas[:, 0, 0, 0], 5.005 + np.array([1.0, 2.0, 12.0, 5.0]))
    # They are no part of what the network sees, and a prior without them is one all the same.
    assert "quantiles_tas" not in read.card.statics
    plain = write_tiny_prior(tmp_path / "plain")
    assert plain.quantiles("tas") is None


@pytest.mark.parametrize(
    "shape", [(3, 100, 3, 4), (4, 100, 4, 3), (4, 100, 12), (4, 1, 3, 4), (4,)], ids=str
)
def test_quantiles_of_another_shape_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    folder = write_tiny_prior(tmp_path / "tiny", quantiles=True).folder
    rewrite_fields(folder, lambda f: f.update(quantiles_tas=np.zeros(shape, dtype=np.float32)))
    message = f"'quantiles_tas' has shape {shape}; expected (4, quantiles, 3, 4)"
    with pytest.raises(PriorError, match=re.escape(message)):
        read_prior(folder)


def test_the_level_of_a_variable_is_kept_on_the_card(tiny_prior: Prior) -> None:
    aloft = dataclasses.replace(tiny_prior.card.variables[0], name="ta", level=85_000.0)
    card = dataclasses.replace(tiny_prior.card, variables=(aloft, tiny_prior.card.variables[1]))
    again = Card.from_json(card.to_json())
    assert [variable.level for variable in again.variables] == [85_000.0, None]
    assert again.to_json() == card.to_json()
    # Cards from before variables had levels.
    entries = json.loads(card.to_json())
    for variable in entries["variables"]:
        del variable["level"]
    old = Card.from_json(json.dumps(entries))
    assert [variable.level for variable in old.variables] == [None, None]


def test_other_weights_give_another_digest(tmp_path: Path) -> None:
    one, other = (write_tiny_prior(tmp_path / str(seed), seed=seed) for seed in (0, 1))
    assert one.digest != other.digest


def test_a_prior_is_the_folder_and_not_its_place(folder: Path, tiny_prior: Prior) -> None:
    assert read_prior(folder).digest == tiny_prior.digest


def test_the_mask_marks_the_cells_that_have_values(tiny_prior: Prior) -> None:
    assert tiny_prior.mask.dtype == np.bool_
    assert tiny_prior.mask.shape == (2, *FINE.shape)
    ny, nx = FINE.shape
    assert not tiny_prior.mask[:, : ny // 4, : nx // 4].any()
    assert tiny_prior.mask.sum() == 2 * (ny * nx - (ny // 4) * (nx // 4))


def test_the_transforms_are_those_of_the_card(tiny_prior: Prior) -> None:
    climatology = tiny_prior.fields["climatology_tas"].astype(np.float64)
    assert set(tiny_prior.transforms) == {"tas", "pr"}
    z = tiny_prior.transforms["tas"].forward(climatology + 6.0)
    np.testing.assert_allclose(z, 2.0, rtol=1e-12)
    assert tiny_prior.transforms["pr"].inverse(np.float64(0.5 / -0.8)) == pytest.approx(0.0)
    chain = Chain.from_list(TAS.transform, {"climatology_tas": climatology})
    assert tiny_prior.transforms["tas"].to_list() == chain.to_list()


def test_a_denoiser_is_ready_for_sampling(tiny_prior: Prior) -> None:
    denoiser = tiny_prior.denoiser()
    assert not denoiser.training
    assert not any(parameter.requires_grad for parameter in denoiser.parameters())
    x = torch.randn((1, 2, *FINE.shape), generator=torch.Generator().manual_seed(0))
    calendar = torch.tensor([[1.0, 15.0, 12.0]])
    denoised = denoiser(x, torch.tensor([1.0]), calendar)
    assert denoised.shape == x.shape
    assert (denoised[0][torch.from_numpy(~tiny_prior.mask)] == 0).all()
    fresh = build_denoiser(tiny_prior.card, tiny_prior.fields)(x, torch.tensor([1.0]), calendar)
    assert not torch.equal(denoised, fresh)


def test_a_transform_nobody_knows_is_refused_when_it_is_needed(folder: Path) -> None:
    card = folder / CARD_FILE
    card.write_text(card.read_text(encoding="utf-8").replace('"log"', '"root"'), encoding="utf-8")
    with pytest.raises(PriorError, match="the card is damaged: unknown transform 'root'"):
        _ = read_prior(folder).transforms


def test_a_folder_without_a_card_is_no_prior(tmp_path: Path) -> None:
    with pytest.raises(PriorError, match=rf"{tmp_path} is not a prior: card\.json: No such file"):
        read_card(tmp_path)


def test_a_card_that_is_too_large_is_not_read(folder: Path) -> None:
    (folder / CARD_FILE).write_text(" " * (1 << 20) + "{}", encoding="utf-8")
    with pytest.raises(PriorError, match="larger than 1048576 bytes; that is no card"):
        read_card(folder)


def test_a_card_that_is_not_text_is_refused(folder: Path) -> None:
    (folder / CARD_FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PriorError, match="the card is not text"):
        read_card(folder)


def test_what_is_wrong_with_a_card_comes_with_its_folder(folder: Path) -> None:
    (folder / CARD_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(PriorError, match=f"prior {folder}: the card is not valid JSON"):
        read_prior(folder)


@pytest.mark.parametrize("name", [MODEL_FILE, FIELDS_FILE])
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(PriorError, match=f"the file {name} is missing; fetch the prior again"):
        read_prior(folder)


@pytest.mark.parametrize("name", [MODEL_FILE, FIELDS_FILE])
def test_one_flipped_bit_is_found(name: str, folder: Path) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(PriorError, match=rf"{name} has SHA-256 \w{{12}}\.\.\., the card says"):
        read_prior(folder)


@pytest.mark.parametrize("name", ["mask", "orography", "climatology_tas"])
def test_a_field_the_card_needs_is_missed(name: str, folder: Path) -> None:
    rewrite_fields(folder, lambda fields: fields.pop(name))
    with pytest.raises(PriorError, match=f"{FIELDS_FILE} lacks the field '{name}'"):
        read_prior(folder)


@pytest.mark.parametrize("name", ["mask", "land_fraction"])
def test_a_field_of_another_shape_is_refused(name: str, folder: Path) -> None:
    rewrite_fields(folder, lambda f: f.update({name: np.zeros((12, 15), dtype=np.float32)}))
    expected = "(2, 12, 16)" if name == "mask" else "(12, 16)"
    message = f"field '{name}' has shape (12, 15); expected {expected}"
    with pytest.raises(PriorError, match=re.escape(message)):
        read_prior(folder)


def test_fields_that_are_no_safetensors_are_refused(folder: Path) -> None:
    (folder / FIELDS_FILE).write_bytes(b"\x80\x04pickle")
    sign(folder, FIELDS_FILE)
    with pytest.raises(PriorError, match=f"{FIELDS_FILE} does not load"):
        read_prior(folder)


def test_weights_that_are_no_safetensors_do_not_load(folder: Path) -> None:
    (folder / MODEL_FILE).write_bytes(b"\x80\x04pickle")
    sign(folder, MODEL_FILE)
    with pytest.raises(PriorError, match="the weights do not load"):
        read_prior(folder).denoiser()


@pytest.mark.parametrize("network", [{"channels": [8, 16]}, {"blocks": 2}])
def test_weights_of_another_network_do_not_load(network: dict[str, Any], folder: Path) -> None:
    entries = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
    entries["network"] |= network
    (folder / CARD_FILE).write_text(json.dumps(entries), encoding="utf-8")
    with pytest.raises(PriorError, match=f"prior {folder}: the weights do not load"):
        read_prior(folder).denoiser()


def test_writing_over_a_prior_replaces_it_whole(folder: Path, tiny_prior: Prior) -> None:
    weights = {name: tensor + 1 for name, tensor in tiny_prior.denoiser().state_dict().items()}
    again = write_prior(folder, tiny_prior.card, weights, tiny_prior.fields, "# other\n")
    assert again.digest != tiny_prior.digest
    assert again.card.files[FIELDS_FILE] == tiny_prior.card.files[FIELDS_FILE]
    assert again.card.files[MODEL_FILE] != tiny_prior.card.files[MODEL_FILE]
