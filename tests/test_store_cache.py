"""The cache of fetched priors, as folders: found, pointed at, discarded, removed."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from climdown.errors import OutputError, PriorError
from climdown.files import file_digest
from climdown.priors.card import MODEL_FILE, README_FILE
from climdown.priors.hub_cache import PRIOR_FILES, Cache, default_folder, is_complete, is_content
from climdown.priors.prior import Prior
from climdown.priors.store import find_prior, known_priors, load_prior, remove_prior
from tests.commands import Shell

REPO = "climdown/era5-zssd"
ONE, TWO = "1" * 40, "2" * 40
BUNDLED = ("eobs-iberia-cm", "eobs-iberia-zssd", "erai-europe-zssd")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """An empty cache, the default one of this test."""
    for name in ("HF_HOME", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    return Cache.at()


def place(
    cache: Cache, prior: Prior, commit: str, *revisions: str, repo_id: str = REPO, readme: str = ""
) -> Path:
    """A prior in the cache, as huggingface_hub lays it out."""
    folder = cache.snapshot(repo_id, commit)
    folder.mkdir(parents=True)
    for name in PRIOR_FILES:
        source = prior.folder / name
        text = readme.encode() if name == README_FILE and readme else source.read_bytes()
        digest = hashlib.sha256(text).hexdigest()
        blob = cache.blob(repo_id, digest)
        blob.parent.mkdir(exist_ok=True)
        blob.write_bytes(text)
        (folder / name).symlink_to(Path("../../blobs") / digest)
    for revision in revisions:
        cache.point(repo_id, revision, commit)
    return folder


# --- where it is


def test_the_cache_is_where_the_library_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache/huggingface/hub"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert default_folder() == Path("/xdg/huggingface/hub")
    monkeypatch.setenv("HF_HOME", "~/hf")
    assert default_folder() == tmp_path / "hf/hub"
    monkeypatch.setenv("HUGGINGFACE_HUB_CACHE", "/old")
    assert default_folder() == Path("/old")
    monkeypatch.setenv("HF_HUB_CACHE", "$HOME/new")
    assert default_folder() == tmp_path / "new"
    assert Cache.at("~/mine").root == tmp_path / "mine"


def test_what_is_not_there_is_not_found(cache: Cache) -> None:
    assert cache.find(REPO, "main") is None
    assert list(cache.fetched()) == []
    refs = cache.home(REPO) / "refs"
    refs.mkdir(parents=True)
    for content in (b"", b"../../..", b"\xff", ONE.encode()):
        (refs / "main").write_bytes(content)
        assert cache.find(REPO, "main") is None


@pytest.mark.parametrize("name", PRIOR_FILES)
def test_half_a_prior_is_not_found(name: str, cache: Cache, tiny_prior: Prior) -> None:
    folder = place(cache, tiny_prior, ONE, "main")
    assert cache.find(REPO, "main") == folder
    (folder / name).resolve().unlink()  # the link leads nowhere now
    assert cache.find(REPO, "main") is None
    assert list(cache.fetched()) == []


def test_fetched_priors_come_with_their_revisions(cache: Cache, tiny_prior: Prior) -> None:
    place(cache, tiny_prior, ONE, "main", "v1", "next/one")
    place(cache, tiny_prior, TWO, readme="other")
    place(cache, tiny_prior, ONE, "main", repo_id="me/mine")
    (cache.root / "datasets--a--b").mkdir()
    found = [(p.repo_id, p.commit, p.revisions) for p in cache.fetched()]
    assert found == [
        (REPO, ONE, ("main", "next/one", "v1")),
        (REPO, TWO, ()),
        ("me/mine", ONE, ("main",)),
    ]
    assert [p.commit for p in cache.fetched(REPO)] == [ONE, TWO]


def test_a_revision_is_moved_in_one_step(cache: Cache, tiny_prior: Prior) -> None:
    place(cache, tiny_prior, ONE, "main")
    folder = place(cache, tiny_prior, TWO, "main", readme="other")
    assert cache.find(REPO, "main") == folder
    assert [path.name for path in (cache.home(REPO) / "refs").iterdir()] == ["main"]
    cache.point(REPO, ONE, ONE)
    assert not (cache.home(REPO) / "refs" / ONE).exists()


def test_a_content_has_the_hash_it_is_named_by(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"hello\n")
    # As `git hash-object` has it.
    assert is_content(path, "ce013625030ba8dba906f756967f9e9ca394464a")
    assert is_content(path, hashlib.sha256(b"hello\n").hexdigest())
    path.write_bytes(b"hello!")
    assert not is_content(path, "ce013625030ba8dba906f756967f9e9ca394464a")
    assert not is_content(path, hashlib.sha256(b"hello\n").hexdigest())


# --- discarded, removed


def test_what_others_link_to_stays_unless_it_is_damaged(cache: Cache, tiny_prior: Prior) -> None:
    one = place(cache, tiny_prior, ONE, "main", readme="one")
    two = place(cache, tiny_prior, TWO, "v2", readme="two")
    cache.discard(REPO, ONE)
    assert not one.exists()
    assert is_complete(two)
    assert cache.commit(REPO, "main") is None
    assert cache.find(REPO, "v2") == two
    assert not cache.blob(REPO, hashlib.sha256(b"one").hexdigest()).exists()

    one = place(cache, tiny_prior, ONE, "main", readme="one")
    (one / MODEL_FILE).resolve().write_bytes(b"rot")
    cache.discard(REPO, ONE)
    assert not is_complete(two), "a damaged content serves nobody"
    cache.discard(REPO, ONE)  # nothing there: nothing happens


def test_a_prior_is_removed_whole(shell: Shell, cache: Cache, tiny_prior: Prior) -> None:
    place(cache, tiny_prior, ONE, "main")
    place(cache, tiny_prior, TWO, "v2", readme="two")
    other = place(cache, tiny_prior, ONE, "main", repo_id="me/mine")
    result = shell("priors", "remove", "era5-zssd")
    assert result.code == 0, result.err
    assert [path.name for path in cache.root.iterdir()] == ["models--me--mine"]
    assert is_complete(other)
    result = shell("priors", "remove", "era5-zssd")
    assert result.code == 5
    assert f"prior '{REPO}' has not been fetched into {cache.root}" in result.message


def test_one_revision_is_removed(shell: Shell, cache: Cache, tiny_prior: Prior) -> None:
    one = place(cache, tiny_prior, ONE, "main")
    place(cache, tiny_prior, TWO, "v2", readme="two")
    assert shell("priors", "remove", "era5-zssd@v2").code == 0
    assert [prior.folder for prior in cache.fetched()] == [one]
    result = shell("priors", "remove", "era5-zssd@v2")
    assert result.code == 5
    assert f"prior '{REPO}' has no revision 'v2' in {cache.root}" in result.message


def test_a_bundled_prior_is_not_removed(shell: Shell, cache: Cache) -> None:
    result = shell("priors", "remove", "eobs-iberia-zssd")
    assert result.code == 5
    assert "is bundled with climdown; only fetched ones are removed" in result.message
    assert load_prior("eobs-iberia-zssd").card.name == "eobs-iberia-zssd"


def test_models_of_others_are_not_removed(cache: Cache) -> None:
    folder = cache.snapshot("other/model", ONE)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(PriorError, match="holds no prior; it was not fetched by climdown"):
        remove_prior("other/model")
    assert (folder / "config.json").exists()


def test_folders_are_not_removed(shell: Shell, cache: Cache, tiny_prior: Prior) -> None:
    shutil.copytree(tiny_prior.folder, "mine")
    result = shell("priors", "remove", "mine")
    assert result.code == 5
    assert "no prior 'mine'" in result.message
    assert is_complete(Path("mine"))


def test_what_a_killed_fetch_left_is_removed(cache: Cache) -> None:
    rest = cache.blob(REPO, "0" * 64).with_name(f"{'0' * 64}.here.incomplete")
    rest.parent.mkdir(parents=True)
    rest.write_bytes(b"half")
    remove_prior("era5-zssd")
    assert list(cache.root.iterdir()) == []


def test_a_removal_that_fails_is_no_bug(
    cache: Cache, tiny_prior: Prior, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(cache, tiny_prior, ONE, "main")

    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("climdown.priors.hub_cache.Path.rename", fail)
    with pytest.raises(OutputError, match=r"cannot write into the cache .* \(Permission denied\)"):
        remove_prior("era5-zssd")


# --- found by name


def test_another_revision_than_the_fetched_one_is_not_taken_for_it(
    cache: Cache, tiny_prior: Prior
) -> None:
    folder = place(cache, tiny_prior, ONE, "v1")
    assert find_prior("era5-zssd@v1") == folder
    with pytest.raises(PriorError, match="fetched are its revisions v1; run `climdown fetch-prior"):
        find_prior("era5-zssd")


def test_a_name_that_was_never_fetched_comes_with_the_command(cache: Cache) -> None:
    for name in ("era5-zssd", "climdown/era5-zssd", "me/mine", "me/mine@v2"):
        with pytest.raises(PriorError) as error:
            load_prior(name)
        assert f"no prior '{name}' here: it is no folder and was not fetched" in str(error.value)
        assert f"run `climdown fetch-prior {name}`" in str(error.value)
        assert f"or use a bundled one: {', '.join(BUNDLED)}" in str(error.value)


def test_a_fetched_prior_is_verified_when_it_is_loaded(cache: Cache, tiny_prior: Prior) -> None:
    folder = place(cache, tiny_prior, ONE, "main")
    assert load_prior("era5-zssd").digest == tiny_prior.digest
    (folder / MODEL_FILE).resolve().write_bytes(b"rot")
    with pytest.raises(PriorError, match=f"{MODEL_FILE} has SHA-256"):
        load_prior("era5-zssd")


def test_all_priors_are_listed(shell: Shell, cache: Cache, tiny_prior: Prior) -> None:
    assert [(k.name, k.origin) for k in known_priors(cache)] == [
        *((name, "bundled") for name in BUNDLED),
        ("era5-cm", "not fetched"),
        ("era5-zssd", "not fetched"),
    ]
    place(cache, tiny_prior, ONE, "main", "v1")
    damaged = place(cache, tiny_prior, TWO, repo_id="me/mine")
    (damaged / "card.json").resolve().write_text("{", encoding="utf-8")
    assert [(k.name, k.origin) for k in known_priors(cache)] == [
        *((name, "bundled") for name in BUNDLED),
        ("era5-zssd", "fetched"),
        ("era5-zssd@v1", "fetched"),
        (f"me/mine@{TWO}", "fetched"),
        ("era5-cm", "not fetched"),
    ]
    result = shell("priors", "list")
    assert result.code == 0, result.err
    for word in ("eobs-iberia-zssd", "era5-zssd@v1", "not fetched", "me/mine"):
        assert word in result.out
    assert "climdown fetch-prior NAME" in result.out
    assert file_digest(damaged / "card.json") != tiny_prior.digest


def test_a_fetched_prior_is_shown_and_verified(
    shell: Shell, cache: Cache, tiny_prior: Prior, tmp_path: Path
) -> None:
    folder = place(cache, tiny_prior, ONE, "main")
    assert "air_temperature" in shell("priors", "show", "era5-zssd").out
    assert "tiny: ok" in shell("priors", "verify", REPO).out
    assert shell("priors", "path", "era5-zssd").out == f"{folder}\n"
    away = tmp_path / "away"
    cache.root.rename(away)
    assert shell("priors", "path", "era5-zssd").code == 5
    for command in ("show", "verify", "path"):
        assert shell("priors", command, "era5-zssd", "--cache-dir", away).code == 0
    assert "era5-zssd" in shell("priors", "list", "--cache-dir", away).out
    assert shell("priors", "remove", "era5-zssd", "--cache-dir", away).code == 0
    assert list(away.iterdir()) == []


def test_the_path_of_any_prior_is_printed(shell: Shell, cache: Cache, tiny_prior: Prior) -> None:
    assert Path(shell("priors", "path", "eobs-iberia-zssd").out.strip()).is_dir()
    assert shell("priors", "path", tiny_prior.folder).out == f"{tiny_prior.folder}\n"
    assert shell("priors", "path", "era5-zsd").code == 5


@pytest.mark.parametrize("name", ["list", "show", "verify", "path", "remove"])
def test_every_command_has_help(name: str, shell: Shell) -> None:
    assert "--cache-dir" in shell("priors", name, "--help").out
    for command in ("fetch-prior", "push-prior"):
        text = shell(command, "--help").out
        assert "Usage" in text
        assert "REPO_ID" in text
