"""Finding priors: by bundled name, by path, and what is said of a name that is neither."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from climdown.errors import PriorError
from climdown.priors import store
from climdown.priors.card import CARD_FILE, FIELDS_FILE, MODEL_FILE
from climdown.priors.prior import Prior


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_prior: Prior) -> Path:
    """A package folder with the priors "north-zssd" and "south-zssd", and two that are none."""
    folder = tmp_path / "bundled"
    for name in ("south-zssd", "north-zssd"):
        shutil.copytree(tiny_prior.folder, folder / name)
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("no prior", encoding="utf-8")
    monkeypatch.setattr(store, "bundled_folder", lambda: folder)
    # Names are also tried as paths, from the working directory.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def test_bundled_names_are_sorted_and_have_a_card(bundle: Path) -> None:
    assert store.bundled_names() == ["north-zssd", "south-zssd"]


def test_a_bundled_name_gives_its_folder(bundle: Path) -> None:
    assert store.find_prior("south-zssd") == bundle / "south-zssd"


def test_a_folder_is_found_by_its_path(bundle: Path, tiny_prior: Prior) -> None:
    assert store.find_prior(tiny_prior.folder) == tiny_prior.folder
    assert store.find_prior(str(tiny_prior.folder)) == tiny_prior.folder


def test_a_prior_of_that_name_in_the_working_directory_comes_first(
    bundle: Path, tiny_prior: Prior
) -> None:
    shutil.copytree(tiny_prior.folder, "south-zssd")
    assert store.find_prior("south-zssd") == Path("south-zssd")


def test_a_near_name_is_suggested_and_all_are_listed(bundle: Path) -> None:
    with pytest.raises(
        PriorError, match=r"no prior 'nort-zsd': did you mean north-zssd\?"
    ) as error:
        store.find_prior("nort-zsd")
    assert "bundled are north-zssd, south-zssd" in str(error.value)
    assert "path of a prior's folder" in str(error.value)


def test_a_name_like_no_other_gets_no_suggestion(bundle: Path) -> None:
    with pytest.raises(PriorError, match="no prior 'qqqq': bundled are north-zssd"):
        store.find_prior("qqqq")


def test_an_empty_package_is_said_to_bundle_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "bundled_folder", lambda: tmp_path)
    with pytest.raises(PriorError, match="no prior 'any': bundled are none"):
        store.find_prior("any")


@pytest.mark.parametrize("name", ["../secret", "north-zssd/../../secret", "north-zssd/", "."])
def test_only_names_lead_into_the_bundled_folder_and_none_out_of_it(
    name: str, bundle: Path, tiny_prior: Prior, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_prior.folder, bundle.parent / "secret")
    here = bundle.parent / "far" / "away"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    with pytest.raises(PriorError, match=r"no prior|is not a prior"):
        store.load_prior(name)


def test_a_file_is_no_prior(bundle: Path) -> None:
    with pytest.raises(PriorError, match="no prior"):
        store.find_prior(bundle / "notes.txt")


def test_a_folder_without_a_card_is_no_prior(bundle: Path) -> None:
    with pytest.raises(PriorError, match=r"empty is not a prior: card\.json: No such file"):
        store.load_prior(bundle / "empty")


def test_load_prior_reads_and_verifies(bundle: Path, tiny_prior: Prior) -> None:
    prior = store.load_prior("north-zssd")
    assert prior.folder == bundle / "north-zssd"
    assert prior.digest == tiny_prior.digest
    with (prior.folder / MODEL_FILE).open("ab") as stream:
        stream.write(b"0")
    with pytest.raises(PriorError, match=f"{MODEL_FILE} has SHA-256"):
        store.load_prior("north-zssd")


@pytest.mark.parametrize("other", ["../outside.safetensors", "/etc/hostname"])
def test_a_card_cannot_name_files_outside_its_folder(other: str, bundle: Path) -> None:
    card = bundle / "north-zssd" / CARD_FILE
    text = card.read_text(encoding="utf-8")
    card.write_text(text.replace(f'"{FIELDS_FILE}"', f'"{other}"'), encoding="utf-8")
    with pytest.raises(PriorError, match="entry 'files' must name"):
        store.load_prior("north-zssd")


def test_every_prior_of_the_package_loads_and_bears_its_name() -> None:
    names = store.bundled_names()
    assert names, "the package bundles no prior"
    for name in names:
        prior = store.load_prior(name)
        assert prior.card.name == name
        assert set(prior.transforms) == {variable.name for variable in prior.card.variables}
