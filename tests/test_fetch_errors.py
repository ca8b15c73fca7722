"""What goes wrong with fetching: one clear line each, its exit code, and nothing half placed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from climdown.errors import ConfigError, OutputError, PriorError
from climdown.priors.card import CARD_FILE, MODEL_FILE, README_FILE
from climdown.priors.fetch import fetch_prior
from climdown.priors.hub_cache import Cache
from climdown.priors.refusals import HubUnavailableError
from climdown.priors.store import find_prior
from tests.commands import Shell
from tests.hub import REPO, LoopbackHub, Request

BUNDLED = "bundled priors need no network: eobs-iberia-cm, eobs-iberia-zssd, erai-europe-zssd"


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses between attempts, noted and not made."""
    made: list[float] = []
    monkeypatch.setattr("climdown.priors.hub.time.sleep", made.append)
    return made


def refused(shell: Shell, *words: str | Path, code: int = 5) -> str:
    """The one line of an error, after which nothing is found."""
    result = shell("fetch-prior", *words)
    assert result.code == code, result.err
    assert result.out == ""
    assert list(Cache.at().fetched()) == []
    return result.message


# --- names


def test_a_name_near_a_known_one_is_suggested(shell: Shell, hub: LoopbackHub) -> None:
    assert "no prior 'era5-zsd': did you mean era5-zssd?" in refused(shell, "era5-zsd")
    assert "did you mean eobs-iberia-zssd?" in refused(shell, "eobs-iberia-zsd")
    assert "to be fetched are era5-cm, era5-zssd" in refused(shell, "qqq")
    assert hub.log == []


@pytest.mark.parametrize("name", ["", "..", "a/b/c", "../up", "a--b/c", "a/..b", "/etc", "a b/c"])
def test_what_cannot_be_a_repository_is_not_asked_for(name: str, hub: LoopbackHub) -> None:
    with pytest.raises(PriorError, match="no prior"):
        fetch_prior(name)
    assert hub.log == []


@pytest.mark.parametrize("revision", ["", "../x", "a..b", "/x", "x/", "-x", "x y", "x" * 300])
def test_what_cannot_be_a_revision_is_not_asked_for(revision: str, hub: LoopbackHub) -> None:
    with pytest.raises(PriorError, match="is no revision; expected a branch, a tag or a commit"):
        fetch_prior("era5-zssd", revision=revision)
    assert hub.log == []


def test_two_revisions_are_one_too_many(hub: LoopbackHub) -> None:
    with pytest.raises(PriorError, match="name two revisions; give one"):
        fetch_prior("era5-zssd@v1", revision="v2")


def test_options_that_contradict_each_other_are_refused(
    shell: Shell, hub: LoopbackHub, tmp_path: Path
) -> None:
    folder = tmp_path / "x"
    for words, line in {
        ("eobs-iberia-zssd", "--revision", "v1"): "is bundled and has no revisions",
        ("era5-zssd", "--from", str(folder), "--revision", "v1"): "a folder has no revisions",
        ("era5-zssd", "--from", hub.url, "--offline"): "contradict each other",
        ("era5-zssd", "--from", "ftp://host"): "'ftp://host' is no address of a Hub",
        ("era5-zssd", "--from", "http://["): "'http://[' is no address of a Hub",
    }.items():
        assert line in refused(shell, *words, code=2)
    assert hub.log == []


def test_a_malformed_endpoint_is_named(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "huggingface.co")
    with pytest.raises(ConfigError, match=r"'huggingface\.co' is no address of a Hub; expected"):
        fetch_prior("era5-zssd")


# --- the Hub refuses


def test_until_it_is_published_a_named_prior_is_said_not_to_be(
    shell: Shell, hub: LoopbackHub
) -> None:
    for name in ("era5-cm", "climdown/era5-cm"):
        message = refused(shell, name)
        assert "prior 'era5-cm' has not been published yet" in message
        assert f"{hub.url} has no repository climdown/era5-cm" in message
        assert BUNDLED in message


def test_an_unknown_repository_comes_with_a_near_name(shell: Shell, hub: LoopbackHub) -> None:
    message = refused(shell, "climdown/era5-zsd")
    assert "has no repository climdown/era5-zsd that you may read" in message
    assert "did you mean climdown/era5-zssd?" in message
    assert "if it is private, set HF_TOKEN" in message


def test_with_a_token_an_unknown_repository_is_unknown_too(
    shell: Shell, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert "has no repository me/mine" in refused(shell, "me/mine")


def test_a_private_repository_asks_for_a_token(shell: Shell, hub: LoopbackHub, era5: Path) -> None:
    hub.repositories["me/mine"] = hub.repositories.pop(REPO)
    hub.repositories["me/mine"].private = True
    assert "if it is private, set HF_TOKEN or run `hf auth login`" in refused(shell, "me/mine")


def test_a_wrong_token_is_refused(
    shell: Shell, hub: LoopbackHub, era5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    message = refused(shell, "era5-zssd")
    assert f"{hub.url} refuses the token, or got none: set HF_TOKEN" in message
    assert "hf_wrong" not in message


def test_a_token_without_rights_is_refused(shell: Shell, hub: LoopbackHub, era5: Path) -> None:
    with hub.failing(403):
        assert f"does not let this token read {REPO}" in refused(shell, "era5-zssd")


def test_a_gated_repository_says_where_to_ask(shell: Shell, hub: LoopbackHub, era5: Path) -> None:
    with hub.failing(403, X_Error_Code="GatedRepo"):
        assert f"{hub.url}/{REPO} is gated: ask for access there" in refused(shell, "era5-zssd")


def test_an_unknown_revision_comes_with_a_near_one(
    shell: Shell, hub: LoopbackHub, era5: Path
) -> None:
    hub.repositories[REPO].refs["version-1"] = hub.repositories[REPO].refs["main"]
    message = refused(shell, "era5-zssd", "--revision", "version-2")
    assert f"{REPO} has no revision 'version-2': did you mean version-1?" in message
    assert "it has main, version-1" in message
    with hub.failing(404, "/refs"):
        message = refused(shell, "era5-zssd@version-2")
    assert "look at its page for branches and tags" in message


def test_other_refusals_quote_the_hub(shell: Shell, hub: LoopbackHub, era5: Path) -> None:
    with hub.failing(418, X_Error_Message="I am a teapot"):
        message = refused(shell, "era5-zssd")
    assert f"{hub.url}/{REPO}: the Hub answers 418" in message
    assert "I am a teapot" in message


# --- the Hub cannot be reached, or fails for now


def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take an address for the Hub's on which nobody listens."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


def test_without_a_network_the_bundled_priors_are_named(
    shell: Shell, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed(monkeypatch)
    message = refused(shell, "era5-zssd")
    assert "cannot reach http://127.0.0.1:9 (" in message
    assert "fetch from a folder by --from DIR" in message
    assert BUNDLED in message


def test_without_a_network_the_copy_fetched_before_serves(
    shell: Shell, hub: LoopbackHub, era5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fetch_prior("era5-zssd")
    closed(monkeypatch)
    result = shell("fetch-prior", "era5-zssd")
    assert (result.code, result.out.strip()) == (0, str(folder))
    assert "cannot reach http://127.0.0.1:9" in result.err
    assert "taking the copy fetched before" in result.err
    (folder / MODEL_FILE).resolve().write_bytes(b"rot")
    with pytest.raises(PriorError, match=f"{MODEL_FILE} has SHA-256 .* fetch the prior again"):
        fetch_prior("era5-zssd")


@pytest.mark.parametrize("way", ["--offline", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_the_cache_serves_or_nothing_does(
    way: str, shell: Shell, hub: LoopbackHub, era5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["era5-zssd"]
    if way == "--offline":
        words.append(way)
    else:
        monkeypatch.setenv(way, "yes")
    message = refused(shell, *words)
    assert "prior 'era5-zssd' is not in the cache" in message
    assert "this is offline" in message
    assert "bundled are eobs-iberia-cm, eobs-iberia-zssd, erai-europe-zssd" in message
    assert hub.log == []
    monkeypatch.delenv(way, raising=False)
    folder = fetch_prior("era5-zssd")
    if way != "--offline":
        monkeypatch.setenv(way, "1")
    hub.log.clear()
    assert shell("fetch-prior", *words).out.strip() == str(folder)
    assert hub.log == []


def test_offline_as_the_library_knows_it_is_no_bug(
    hub: LoopbackHub, era5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnavailableError, match="HF_HUB_OFFLINE is set"):
        fetch_prior("era5-zssd")


def test_a_hub_that_asks_to_slow_down_is_given_the_time(
    hub: LoopbackHub, era5: Path, pauses: list[float]
) -> None:
    answers: list[Any] = [(429, {"Retry-After": "7"}), (503, {}), None]

    def busy(request: Request) -> Any:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    hub.faults.append(busy)
    assert fetch_prior("era5-zssd").is_dir()
    assert pauses == [7.0, 1.0 * 2]


def test_a_hub_that_fails_while_it_sends_is_given_the_time(
    hub: LoopbackHub, era5: Path, pauses: list[float]
) -> None:
    answers: list[Any] = [(503, {}), (429, {"Retry-After": "3"})]

    def busy(request: Request) -> Any:
        return answers.pop(0) if answers and "/storage/" in request.path else None

    hub.faults.append(busy)
    assert fetch_prior("era5-zssd").is_dir()
    assert pauses == [1.0, 3.0]


def test_a_hub_that_stays_busy_says_when_to_come_back(
    shell: Shell, hub: LoopbackHub, era5: Path, pauses: list[float]
) -> None:
    with hub.failing(429, Retry_After="5"):
        assert "asks to slow down (429): try again in 5 s" in refused(shell, "era5-zssd")
    assert pauses == [5.0, 5.0]
    with hub.failing(429):
        assert "asks to slow down (429): try again later" in refused(shell, "era5-zssd")
    with hub.failing(429, RateLimit='"resolvers";r=0;t=55'):
        assert "asks to slow down (429): try again in 55 s" in refused(shell, "era5-zssd")
    assert pauses[-2:] == [55.0, 55.0]
    pauses.clear()
    with hub.failing(429, Retry_After="3600"):
        assert "try again in 3600 s" in refused(shell, "era5-zssd")
    assert pauses == [], "nobody waits an hour"


def test_a_hub_that_is_down_is_said_to_be(shell: Shell, hub: LoopbackHub, era5: Path) -> None:
    with hub.failing(503):
        message = refused(shell, "era5-zssd")
        assert f"{hub.url} fails for now (503): try again later" in message
    with hub.failing(500, "/storage/"):
        assert "fails for now (500)" in refused(shell, "era5-zssd")
    folder = fetch_prior("era5-zssd")
    with hub.failing(502):
        result = shell("fetch-prior", "era5-zssd")
    assert (result.code, result.out.strip()) == (0, str(folder))
    assert "taking the copy fetched before" in result.err


def test_a_connection_that_always_breaks_is_given_up(
    shell: Shell, hub: LoopbackHub, era5: Path, pauses: list[float]
) -> None:
    # Each time the same few bytes: no progress.
    hub.no_ranges = True

    def again(request: Request) -> None:
        hub.cut[MODEL_FILE] = 1000

    hub.faults.append(again)
    assert f"cannot reach {hub.url}" in refused(shell, "era5-zssd")
    assert len(pauses) == 3
    hub.no_sizes = True  # now nothing but the announced size tells that something is missing
    assert f"{MODEL_FILE} breaks off after 1000 bytes" in refused(shell, "era5-zssd")


def test_refusals_in_the_middle_are_not_waited_for(
    shell: Shell, hub: LoopbackHub, era5: Path, pauses: list[float]
) -> None:
    with hub.failing(403, "/storage/"):
        assert "does not let this token read" in refused(shell, "era5-zssd")
    assert pauses == []


# --- what answers is no Hub, or means ill


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ETag": '"0"', "X-Repo-Commit": "0" * 40},
        {"ETag": f'"{"0" * 40}"', "X-Repo-Commit": "../../../../somewhere"},
        {"ETag": '"../../../../../../somewhere"', "X-Repo-Commit": "0" * 40},
        {"X-Linked-Etag": f'"{"0" * 64}"', "X-Repo-Commit": "0" * 40, "X-Linked-Size": "-5"},
    ],
)
def test_only_hashes_become_names(
    headers: dict[str, str], shell: Shell, hub: LoopbackHub, tmp_path: Path
) -> None:
    hub.faults.append(lambda _: (200, headers))
    assert "does not answer as the Hub does" in refused(shell, "era5-zssd")
    assert not list(tmp_path.rglob("somewhere*"))


def test_only_addresses_of_the_web_are_followed(shell: Shell, hub: LoopbackHub, era5: Path) -> None:
    elsewhere = {"Location": "file:///etc/passwd"}
    hub.faults.append(lambda r: (302, elsewhere) if r.method == "GET" else None)
    assert "cannot reach" in refused(shell, "era5-zssd")


@pytest.mark.parametrize("name", [CARD_FILE, MODEL_FILE, README_FILE])
def test_an_announced_size_beyond_reason_is_not_fetched(
    name: str, shell: Shell, hub: LoopbackHub, era5: Path
) -> None:
    commit = hub.repositories[REPO].refs["main"]
    headers = {"X-Linked-Etag": "0" * 64, "X-Repo-Commit": commit, "X-Linked-Size": str(1 << 50)}
    hub.faults.append(lambda r: (200, headers) if r.path.endswith(name) else None)
    message = refused(shell, "era5-zssd")
    assert f"{REPO}: {name} has {1 << 50} bytes; at most" in message
    assert hub.asked("GET") == []


@pytest.mark.parametrize("name", [CARD_FILE, MODEL_FILE])
def test_more_than_announced_is_not_written(
    name: str, shell: Shell, hub: LoopbackHub, era5: Path
) -> None:
    hub.endless.add(name)
    size = (era5 / name).stat().st_size
    message = refused(shell, "era5-zssd")
    assert f"sends more of {REPO}/{name} than the {size} bytes it announced" in message
    written = [path.stat().st_size for path in Cache.at().root.rglob("*.incomplete")]
    assert max(written, default=0) <= size


def test_a_repository_that_is_no_prior_is_refused(
    shell: Shell, hub: LoopbackHub, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    hub.publish("other/model", folder)
    assert "has no card.json at 'main': it is no whole prior" in refused(shell, "other/model")


# --- the disk


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
sys.argv = ["climdown", "fetch-prior", "era5-zssd"]
from climdown.cli import main
main()
"""


def test_a_disk_that_is_full_in_the_middle_ends_in_one_line(hub: LoopbackHub, era5: Path) -> None:
    # A limit on the size of files fails a write as a full disk does, in the middle of the model.
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 6, ran.stderr
    assert "Traceback" not in ran.stderr
    (line,) = [line for line in ran.stderr.splitlines() if "climdown: error:" in line]
    assert f"no space left for the cache {Cache.at().root}" in line
    assert list(Cache.at().fetched()) == []
    # With room, the same command goes on.
    hub.log.clear()
    assert fetch_prior("era5-zssd").is_dir()
    assert [r.headers["range"] for r in hub.gets(MODEL_FILE)] == ["bytes=40000-"]


def test_what_will_not_fit_is_not_begun(
    shell: Shell, hub: LoopbackHub, era5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 50_000, 50_000))
    message = refused(shell, "era5-zssd", code=6)
    assert re.search(r"no space left for the cache .*: 0\.1 MB needed, 0\.1 MB free", message)
    assert hub.asked("GET") == []


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (errno.ENOSPC, "no space left for the cache"),
        (errno.EDQUOT, "no space left for the cache"),
        (errno.EROFS, "cannot write into the cache .*Read-only"),
        (errno.EACCES, "cannot write into the cache .*Permission denied"),
    ],
)
@pytest.mark.parametrize("source", ["hub", "folder"])
def test_a_write_that_fails_is_no_bug(
    number: int,
    line: str,
    source: str,
    hub: LoopbackHub,
    era5: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("climdown.priors.hub._write_all", fail)
    monkeypatch.setattr("climdown.priors.hub_cache.shutil.copyfile", fail)
    with pytest.raises(OutputError, match=line):
        fetch_prior("era5-zssd", source=str(era5) if source == "folder" else None)
    assert list(Cache.at().fetched()) == []
    assert list(Cache.at().root.glob("*/snapshots/.*")) == []


def test_a_cache_that_cannot_be_made_is_named(shell: Shell, hub: LoopbackHub, era5: Path) -> None:
    Path("file").write_text("", encoding="utf-8")
    for words in ([], ["--from", str(era5)]):
        message = refused(shell, "era5-zssd", "--cache-dir", "file/cache", *words, code=6)
        assert f"cannot write into the cache {Path('file/cache').absolute()}" in message
        assert "choose another folder by --cache-dir or HF_HOME" in message


def test_a_branch_that_cannot_be_written_down_is_no_bug(
    hub: LoopbackHub, era5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch_prior("era5-zssd")
    refs = Cache.at().home(REPO) / "refs"
    shutil.rmtree(refs)
    refs.write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot write into the cache"):
        fetch_prior("era5-zssd")
    with pytest.raises(PriorError, match="was not fetched"):
        find_prior("era5-zssd")
