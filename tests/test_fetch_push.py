"""`climdown push-prior` against a server on loopback, and what comes back from there."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, constants

from climdown import __version__
from climdown.errors import PriorError
from climdown.files import file_digest
from climdown.priors.card import CARD_FILE, FIELDS_FILE, MODEL_FILE, README_FILE
from climdown.priors.fetch import fetch_prior
from climdown.priors.hub_cache import PRIOR_FILES
from climdown.priors.prior import Prior
from climdown.priors.publish import model_card, push_prior
from climdown.priors.refusals import HubUnavailableError
from climdown.priors.store import bundled_folder, find_prior
from tests.commands import Shell
from tests.hub import WRITER, LoopbackHub, serving, write_named_prior

REPO = "climdown/era5-zssd"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """The Hub for this test, empty; the token at hand may write."""
    with serving(monkeypatch, tmp_path / "home") as server:
        monkeypatch.setenv("HF_TOKEN", WRITER)
        yield server


@pytest.fixture
def folder(tmp_path: Path, tiny_prior: Prior) -> Path:
    """A prior of one's own."""
    return write_named_prior(tmp_path / "mine", tiny_prior.folder)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between attempts, neither climdown's nor the library's."""
    monkeypatch.setattr("climdown.priors.hub.time.sleep", lambda _: None)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in PRIOR_FILES}


def metadata(readme: str) -> dict[str, Any]:
    """What the Hub reads at the head of a README, by its own client."""
    card: Any = ModelCard(readme)
    return dict(card.data.to_dict())


def test_what_is_pushed_and_fetched_is_the_same(
    shell: Shell, hub: LoopbackHub, folder: Path
) -> None:
    (folder / "notes.txt").write_text("not for others", encoding="utf-8")
    before = contents(folder)
    result = shell("push-prior", folder, REPO)
    assert result.code == 0, result.err
    assert result.out == f"{hub.url}/{REPO}\n"
    assert contents(folder) == before
    assert re.search(r"publishing era5-zssd \(0\.1 MB\) as climdown/era5-zssd", result.err)
    assert "%|" not in result.err, "bars are for terminals"
    files = hub.repositories[REPO].files("main")
    assert files is not None
    assert set(files) == {*PRIOR_FILES, ".gitattributes"}

    fetched = contents(fetch_prior("era5-zssd"))
    readme = fetched.pop(README_FILE).decode()
    assert fetched == {name: before[name] for name in fetched}
    assert metadata(readme)["library_name"] == "climdown"
    assert "\n---\n# tiny\n" in readme
    assert "which binds these weights: none: synthetic" in readme


def test_a_readme_with_metadata_is_pushed_as_it_is(hub: LoopbackHub, tmp_path: Path) -> None:
    bundled = bundled_folder() / "eobs-iberia-zssd"
    push_prior(bundled, "me/iberia")
    fetched = fetch_prior("me/iberia")
    assert contents(fetched) == contents(bundled)


def test_a_second_push_updates_what_changed(hub: LoopbackHub, folder: Path) -> None:
    push_prior(folder, REPO)
    first = fetch_prior("era5-zssd")
    (folder / README_FILE).write_text("# second\n", encoding="utf-8")
    hub.log.clear()
    push_prior(folder, REPO, message="Better words")
    assert hub.asked("PUT") == []
    second = fetch_prior("era5-zssd")
    assert second != first
    assert "# second" in (second / README_FILE).read_text(encoding="utf-8")
    assert (second / MODEL_FILE).resolve() == (first / MODEL_FILE).resolve()


def test_a_push_of_the_same_again_is_no_commit(hub: LoopbackHub, folder: Path) -> None:
    push_prior(folder, REPO)
    commit = hub.repositories[REPO].refs["main"]
    assert push_prior(folder, REPO) == f"{hub.url}/{REPO}"
    assert hub.repositories[REPO].refs["main"] == commit


def test_a_branch_is_made_where_needed(shell: Shell, hub: LoopbackHub, folder: Path) -> None:
    push_prior(folder, REPO)
    main = fetch_prior("era5-zssd")
    (folder / README_FILE).write_text("# trial\n", encoding="utf-8")
    for _ in range(2):
        result = shell("push-prior", folder, REPO, "--revision", "trial")
        assert result.out == f"{hub.url}/{REPO}/tree/trial\n"
    assert "# trial" in (fetch_prior("era5-zssd@trial") / README_FILE).read_text(encoding="utf-8")
    assert fetch_prior("era5-zssd") == main
    assert find_prior("era5-zssd") == main


def test_a_private_repository_is_private(
    shell: Shell, hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shell("push-prior", folder, REPO, "--private").code == 0
    assert hub.repositories[REPO].private
    assert shell("push-prior", folder, REPO, "--private").code == 0
    monkeypatch.delenv("HF_TOKEN")
    assert shell("fetch-prior", "era5-zssd").code == 5


def test_private_is_not_promised_of_what_is_public(
    shell: Shell, hub: LoopbackHub, folder: Path
) -> None:
    push_prior(folder, REPO)
    hub.log.clear()
    result = shell("push-prior", folder, REPO, "--private")
    assert result.code == 5
    assert "is there already and public; nothing was uploaded" in result.message
    assert not any("preupload" in r.path or r.method == "PUT" for r in hub.log)


def test_the_commit_says_what_it_is(
    hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    monkeypatch.setattr(
        "climdown.priors.publish.HfApi.create_commit",
        lambda *_, commit_message, **__: said.append(commit_message),
    )
    push_prior(folder, REPO)
    push_prior(folder, REPO, message="mine")
    assert said == [f"era5-zssd, by climdown {__version__}", "mine"]


# --- refused before anything is sent


def test_a_damaged_prior_is_not_pushed(shell: Shell, hub: LoopbackHub, folder: Path) -> None:
    with (folder / MODEL_FILE).open("ab") as stream:
        stream.write(b"0")
    result = shell("push-prior", folder, REPO)
    assert result.code == 5
    assert f"{MODEL_FILE} has SHA-256" in result.message
    assert hub.log == []


def test_weights_of_another_network_are_not_pushed(
    shell: Shell, hub: LoopbackHub, folder: Path
) -> None:
    shutil.copy(folder / FIELDS_FILE, folder / MODEL_FILE)
    card = folder / CARD_FILE
    entries = json.loads(card.read_text(encoding="utf-8"))
    entries["files"][MODEL_FILE] = file_digest(folder / MODEL_FILE)
    card.write_text(json.dumps(entries), encoding="utf-8")
    result = shell("push-prior", folder, REPO)
    assert result.code == 5
    assert "the weights do not load" in result.message
    assert hub.log == []


def test_a_readme_that_is_no_text_is_not_published(hub: LoopbackHub, folder: Path) -> None:
    (folder / README_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(PriorError, match=r"README\.md is no text in UTF-8"):
        push_prior(folder, REPO)
    assert hub.log == []


def test_links_to_elsewhere_are_not_published(
    shell: Shell, hub: LoopbackHub, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("mine", encoding="utf-8")
    (folder / README_FILE).unlink()
    (folder / README_FILE).symlink_to(tmp_path / "secret")
    result = shell("push-prior", folder, REPO)
    assert result.code == 5
    assert "is a link that leads out of the folder" in result.message
    assert hub.log == []


@pytest.mark.parametrize("repo_id", ["mine", "a/b/c", "../x", "a--b/c", "https://hub/a"])
def test_what_is_no_repository_is_not_pushed_to(
    repo_id: str, hub: LoopbackHub, folder: Path
) -> None:
    with pytest.raises(PriorError, match="is no repository; expected ORG/NAME"):
        push_prior(folder, repo_id)
    with pytest.raises(PriorError, match="is no revision"):
        push_prior(folder, REPO, revision="../x")
    assert hub.log == []


# --- refused by the Hub


@pytest.mark.parametrize(
    ("token", "line"),
    [
        (None, "refuses the token, or got none: set HF_TOKEN, or run `hf auth login`"),
        ("hf_wrong", "refuses the token, or got none"),
        ("hf_reader", f"does not let this token write {REPO}: use one with more rights"),
    ],
)
def test_without_the_right_token_nothing_is_pushed(
    token: str | None,
    line: str,
    shell: Shell,
    hub: LoopbackHub,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    result = shell("push-prior", folder, REPO)
    assert result.code == 5
    assert line in result.message
    assert hub.repositories == {}


def test_metadata_the_hub_does_not_take_are_quoted(
    shell: Shell, hub: LoopbackHub, folder: Path
) -> None:
    (folder / README_FILE).write_text("---\nlicense: mit\n---\n# tiny\n", encoding="utf-8")
    result = shell("push-prior", folder, REPO)
    assert result.code == 5
    assert 'Invalid metadata in README.md. - "library_name" is required' in result.message


def test_an_upload_that_fails_is_explained(shell: Shell, hub: LoopbackHub, folder: Path) -> None:
    with hub.failing(403, "/upload/"):
        result = shell("push-prior", folder, REPO)
    assert result.code == 5
    assert f"does not let this token write {REPO}" in result.message
    with hub.failing(503, "/commit/"):
        result = shell("push-prior", folder, REPO)
    assert result.code == 5
    assert result.message.endswith("fails for now (503): try again later")


def test_a_repository_that_went_away_is_explained(
    shell: Shell, hub: LoopbackHub, folder: Path
) -> None:
    with hub.failing(404, "/preupload/", X_Error_Code="RepoNotFound"):
        result = shell("push-prior", folder, REPO)
    assert result.code == 5
    assert f"has no repository {REPO} that you may write" in result.message


def test_without_a_network_nothing_is_pushed(
    shell: Shell, hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    result = shell("push-prior", folder, REPO)
    assert result.code == 5
    assert "cannot reach http://127.0.0.1:9" in result.message
    assert result.message.endswith("check the network, HF_ENDPOINT and the proxy")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnavailableError, match="HF_HUB_OFFLINE is set"):
        push_prior(folder, REPO)


# --- the model card


@pytest.mark.parametrize(
    ("licence", "name"),
    [("CC-BY-4.0", "cc-by-4.0"), ("CC BY 4.0", "cc-by-4.0"), ("E-OBS: ask\nthem", "other")],
)
def test_the_head_of_the_readme_is_yaml(licence: str, name: str, tiny_prior: Prior) -> None:
    text = model_card(replace(tiny_prior.card, licence=licence), "# x\n")
    assert metadata(text) == {
        "license": name,
        "library_name": "climdown",
        "tags": ["climate", "downscaling", "diffusion"],
    }
    assert model_card(tiny_prior.card, text) == text


def test_a_rule_in_the_text_is_no_metadata(tiny_prior: Prior) -> None:
    text = model_card(tiny_prior.card, "# x\n\n---\n\nmore\n---\n")
    assert metadata(text)["license"] == "other"
    assert text.startswith("---\n")
    assert "\n---\n# x\n\n---\n" in text
