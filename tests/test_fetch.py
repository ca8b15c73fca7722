"""`climdown fetch-prior` against a server on loopback that speaks the Hub's protocol."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from huggingface_hub import hf_hub_download, snapshot_download

from climdown.errors import PriorError
from climdown.priors import hub as client
from climdown.priors.card import CARD_FILE, FIELDS_FILE, MODEL_FILE, README_FILE
from climdown.priors.fetch import fetch_prior
from climdown.priors.hub_cache import PRIOR_FILES, Cache
from climdown.priors.prior import Prior, read_prior
from climdown.priors.store import find_prior, load_prior
from tests.commands import Result, Shell, write_pr, write_tas
from tests.hub import REPO, LoopbackHub, digest


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses between attempts, noted and not made."""
    pauses: list[float] = []
    monkeypatch.setattr("climdown.priors.hub.time.sleep", pauses.append)
    return pauses


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in PRIOR_FILES}


def folder_of(result: Result) -> Path:
    """What the command printed; a failure says why."""
    assert result.code == 0, result.err
    (line,) = result.out.splitlines()
    return Path(line)


def cache() -> Cache:
    return Cache.at()


def nothing_is_placed() -> bool:
    return list(cache().fetched()) == [] and not list(cache().root.glob("*/refs/*"))


# --- from the Hub


def test_cold_every_file_is_fetched_once_and_is_the_same(
    shell: Shell, hub: LoopbackHub, era5: Path
) -> None:
    result = shell("fetch-prior", "era5-zssd")
    folder = folder_of(result)
    assert contents(folder) == contents(era5)
    assert {name: len(hub.gets(name)) for name in PRIOR_FILES} == dict.fromkeys(PRIOR_FILES, 1)
    assert "fetching climdown/era5-zssd at" in result.err
    assert "1 of 1 MB" in result.err
    assert "verified climdown/era5-zssd" in result.err


def test_warm_no_file_is_asked_for_again(shell: Shell, hub: LoopbackHub, era5: Path) -> None:
    first = folder_of(shell("fetch-prior", "era5-zssd"))
    hub.log.clear()
    assert folder_of(shell("fetch-prior", REPO)) == first
    # One question: what does `main` stand for now?
    assert [(r.method, r.path) for r in hub.log] == [("HEAD", f"/{REPO}/resolve/main/{CARD_FILE}")]


def test_a_commit_that_is_there_needs_no_question(
    shell: Shell, hub: LoopbackHub, era5: Path
) -> None:
    commit = hub.repositories[REPO].refs["main"]
    first = folder_of(shell("fetch-prior", "era5-zssd", "--revision", commit))
    hub.log.clear()
    assert folder_of(shell("fetch-prior", f"era5-zssd@{commit}")) == first
    assert hub.log == []


def test_what_was_fetched_is_found_by_all_its_names(hub: LoopbackHub, era5: Path) -> None:
    folder = fetch_prior("era5-zssd")
    hub.close()
    commit = folder.name
    for name in ("era5-zssd", REPO, f"era5-zssd@{commit}", f"{REPO}@main"):
        assert find_prior(name) == folder
    assert load_prior("era5-zssd").card.name == "era5-zssd"


def test_a_command_takes_a_fetched_prior_by_name(
    shell: Shell, hub: LoopbackHub, era5: Path
) -> None:
    write_tas(Path("tas.nc"))
    write_pr(Path("pr.nc"))
    words = ("run", "tas.nc", "pr.nc", "out.nc", "--prior", "era5-zssd", "--dry-run")
    before = shell(*words)
    assert before.code == 5
    assert "run `climdown fetch-prior era5-zssd`" in before.message
    assert hub.log == [], "a run never asks the network by itself"
    shell("fetch-prior", "era5-zssd")
    hub.log.clear()
    after = shell(*words)
    assert after.code == 0, after.err
    assert hub.log == []


def test_the_library_finds_what_climdown_fetched_and_the_other_way_round(
    hub: LoopbackHub, era5: Path, tmp_path: Path
) -> None:
    folder = fetch_prior("era5-zssd")
    found = hf_hub_download(REPO, MODEL_FILE, local_files_only=True, cache_dir=cache().root)
    assert Path(found) == folder / MODEL_FILE
    other = snapshot_download(REPO, cache_dir=tmp_path / "other", endpoint=hub.url)
    assert contents(Path(other)) == contents(era5)
    assert find_prior("era5-zssd", tmp_path / "other") == Path(other)
    hub.log.clear()
    fetch_prior("era5-zssd", cache_dir=tmp_path / "other")
    assert hub.asked("GET") == []


def test_a_branch_is_fetched_beside_main(hub: LoopbackHub, era5: Path) -> None:
    main = fetch_prior("era5-zssd")
    (era5 / README_FILE).write_text("# next\n", encoding="utf-8")
    hub.publish(REPO, era5, ref="next/one")
    hub.log.clear()
    branch = fetch_prior("era5-zssd@next/one")
    assert branch != main
    assert (find_prior("era5-zssd@next/one"), find_prior("era5-zssd")) == (branch, main)
    assert [len(hub.gets(name)) for name in (MODEL_FILE, README_FILE)] == [0, 1]


def test_an_update_moves_main_and_keeps_what_did_not_change(hub: LoopbackHub, era5: Path) -> None:
    before = fetch_prior("era5-zssd")
    (era5 / README_FILE).write_text("# better words\n", encoding="utf-8")
    hub.publish(REPO, era5)
    hub.log.clear()
    after = fetch_prior("era5-zssd")
    assert after != before
    assert (after / README_FILE).read_text(encoding="utf-8") == "# better words\n"
    assert [len(hub.gets(name)) for name in (MODEL_FILE, README_FILE)] == [0, 1]
    assert find_prior("era5-zssd") == after
    assert contents(before)[MODEL_FILE] == contents(after)[MODEL_FILE]


def test_the_cache_folder_can_be_chosen(shell: Shell, hub: LoopbackHub, era5: Path) -> None:
    folder = folder_of(shell("fetch-prior", "era5-zssd", "--cache-dir", "here"))
    assert folder.is_relative_to(Path("here").absolute())
    assert shell("priors", "path", "era5-zssd").code == 5
    assert folder_of(shell("priors", "path", "era5-zssd", "--cache-dir", "here")) == folder


def test_a_mirror_is_asked_in_place_of_the_hub(
    shell: Shell, hub: LoopbackHub, era5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    folder = folder_of(shell("fetch-prior", "era5-zssd", "--from", hub.url + "/"))
    assert contents(folder) == contents(era5)


def test_a_private_repository_is_fetched_with_a_token_that_storage_never_sees(
    hub: LoopbackHub, era5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories[REPO].private = True
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    fetch_prior("era5-zssd")
    tokens = {(r.path.split("/")[1], r.headers.get("authorization")) for r in hub.log}
    assert tokens == {("climdown", "Bearer hf_reader"), ("storage", None)}


# --- interrupted, in parallel


def command(*words: str) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "climdown", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for another process; a minute is a failure."""
    until = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)


def test_a_killed_fetch_goes_on_where_it_was(shell: Shell, hub: LoopbackHub, era5: Path) -> None:
    whole, sent = (era5 / MODEL_FILE).stat().st_size, 40_000
    hold = hub.hold(MODEL_FILE, sent)
    process = command("fetch-prior", "era5-zssd")
    assert hold.reached.wait(60.0)
    eventually(lambda: [p.stat().st_size for p in cache().root.rglob("*.incomplete")] == [sent])
    process.send_signal(signal.SIGKILL)
    assert process.wait(60.0) == -signal.SIGKILL
    process.communicate()
    hold.released.set()
    assert nothing_is_placed()
    assert shell("priors", "path", "era5-zssd").code == 5

    hub.log.clear()
    folder = folder_of(shell("fetch-prior", "era5-zssd"))
    (request,) = hub.gets(MODEL_FILE)
    assert request.headers["range"] == f"bytes={sent}-"
    assert hub.gets(FIELDS_FILE) == [], "what was whole already is not fetched again"
    assert contents(folder) == contents(era5)
    assert whole > sent
    assert list(cache().root.rglob("*.incomplete")) == []


def test_two_processes_at_once_fetch_each_file_once(hub: LoopbackHub, era5: Path) -> None:
    hold = hub.hold(MODEL_FILE, 20_000)
    first = command("fetch-prior", "era5-zssd")
    assert hold.reached.wait(60.0)
    second = command("fetch-prior", "era5-zssd")
    # The second has asked about the model as well; whether it waits already does not matter.
    eventually(lambda: len(hub.asked("HEAD", MODEL_FILE)) >= 2)
    hold.released.set()
    ended = [process.communicate(timeout=60.0) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], ended
    assert {name: len(hub.gets(name)) for name in PRIOR_FILES} == dict.fromkeys(PRIOR_FILES, 1)
    assert ended[0][0] == ended[1][0]
    assert contents(Path(ended[0][0].strip())) == contents(era5)


def test_one_that_waits_for_another_says_so(
    hub: LoopbackHub, era5: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cache().lock(REPO, digest((era5 / MODEL_FILE).read_bytes()))
    path.parent.mkdir(parents=True)
    other = FileLock(path)
    other.acquire()
    real = client._utils.WeakFileLock

    def impatient(lock: Path, timeout: float | None = None) -> object:
        if timeout is not None and lock == path:
            raise Timeout(str(lock))
        other.release()
        return real(lock)

    monkeypatch.setattr(client._utils, "WeakFileLock", impatient)
    with caplog.at_level("INFO", logger="climdown"):
        fetch_prior("era5-zssd")
    assert f"another process fetches {MODEL_FILE}; waiting for it" in caplog.text


def test_a_connection_that_breaks_off_is_taken_up_again(
    hub: LoopbackHub, era5: Path, no_waiting: list[float]
) -> None:
    hub.cut[MODEL_FILE] = 50_000
    folder = fetch_prior("era5-zssd")
    assert contents(folder) == contents(era5)
    assert [r.headers.get("range") for r in hub.gets(MODEL_FILE)] == [None, "bytes=50000-"]


def test_a_server_that_knows_no_ranges_sends_all_again(
    hub: LoopbackHub, era5: Path, no_waiting: list[float]
) -> None:
    hub.no_ranges = True
    hub.cut[MODEL_FILE] = 50_000
    assert contents(fetch_prior("era5-zssd")) == contents(era5)
    assert [r.headers.get("range") for r in hub.gets(MODEL_FILE)] == [None, "bytes=50000-"]


@pytest.mark.parametrize(
    ("size", "ranges"), [(14, ["bytes=14-", None]), (84_344, [None]), (90_000, [None])]
)
def test_a_rest_that_does_not_fit_is_dropped(
    size: int, ranges: list[str | None], hub: LoopbackHub, era5: Path
) -> None:
    content = (era5 / MODEL_FILE).read_bytes()
    assert len(content) == 84_344
    leave_rest(content, bytes(size))
    assert contents(fetch_prior("era5-zssd")) == contents(era5)
    assert [r.headers.get("range") for r in hub.gets(MODEL_FILE)] == ranges


def test_a_server_that_refuses_the_range_is_asked_for_all(
    hub: LoopbackHub, era5: Path, no_waiting: list[float]
) -> None:
    content = (era5 / MODEL_FILE).read_bytes()
    leave_rest(content, content[:1000])
    hub.faults.append(
        lambda r: (416, {}) if "range" in r.headers and "/storage/" in r.path else None
    )
    assert contents(fetch_prior("era5-zssd")) == contents(era5)
    assert [r.headers.get("range") for r in hub.gets(MODEL_FILE)] == ["bytes=1000-", None]


def leave_rest(content: bytes, rest: bytes) -> None:
    """What a process on this machine leaves behind that was killed while it fetched a content."""
    blob = cache().blob(REPO, digest(content))
    host = re.sub("[^A-Za-z0-9-]", "-", platform.node())
    blob.parent.mkdir(parents=True)
    blob.with_name(f"{blob.name}.{host}.incomplete").write_bytes(rest)


# --- damaged


def test_a_file_that_arrives_damaged_is_fetched_once_more(hub: LoopbackHub, era5: Path) -> None:
    hub.corrupt = {MODEL_FILE: 1, CARD_FILE: 1}
    assert contents(fetch_prior("era5-zssd")) == contents(era5)
    assert [len(hub.gets(name)) for name in (MODEL_FILE, CARD_FILE)] == [2, 2]


def test_a_file_that_is_damaged_again_ends_in_an_error_and_nothing_is_kept(
    shell: Shell, hub: LoopbackHub, era5: Path
) -> None:
    hub.corrupt = {MODEL_FILE: 9}
    result = shell("fetch-prior", "era5-zssd")
    assert result.code == 5
    assert f"twice sent {MODEL_FILE} of {REPO} with another hash" in result.message
    assert nothing_is_placed()
    assert list(cache().root.rglob("*.incomplete")) == []


@pytest.mark.parametrize("name", [MODEL_FILE, FIELDS_FILE, CARD_FILE])
def test_a_copy_that_rotted_is_fetched_once_more(
    name: str, shell: Shell, hub: LoopbackHub, era5: Path
) -> None:
    folder = fetch_prior("era5-zssd")
    blob = (folder / name).resolve()
    blob.write_bytes(b"\0" + blob.read_bytes()[1:])
    hub.log.clear()
    result = shell("fetch-prior", "era5-zssd")
    assert folder_of(result) == folder
    assert "fetching it once more" in result.err
    assert contents(folder) == contents(era5)
    assert len(hub.gets(name)) == 1


def test_a_repository_whose_files_do_not_fit_each_other_is_refused(
    shell: Shell, hub: LoopbackHub, era5: Path
) -> None:
    good = folder_of(shell("fetch-prior", "era5-zssd"))
    (era5 / MODEL_FILE).write_bytes(b"other weights")
    hub.publish(REPO, era5)
    result = shell("fetch-prior", "era5-zssd")
    assert result.code == 5
    assert f"{REPO} as {hub.url} has it at" in result.message
    assert f"is damaged: prior {cache().root}" in result.message
    assert f"{MODEL_FILE} has SHA-256" in result.message
    # What was good before is what there is.
    assert [prior.folder for prior in cache().fetched()] == [good]
    assert read_prior(find_prior("era5-zssd")).folder == good
    assert list(cache().blob(REPO, "").parent.glob(digest(b"other weights"))) == []


def test_a_newer_format_is_refused_before_the_rest_is_fetched(
    shell: Shell, hub: LoopbackHub, era5: Path
) -> None:
    card = era5 / CARD_FILE
    text = card.read_text(encoding="utf-8").replace('"format": 1', '"format": 99')
    card.write_text(text, encoding="utf-8")
    hub.publish(REPO, era5)
    result = shell("fetch-prior", "era5-zssd")
    assert result.code == 5
    assert "the card has format 99; this climdown reads up to 1: upgrade it" in result.message
    assert hub.gets(MODEL_FILE) == []
    assert nothing_is_placed()
    assert list(cache().root.rglob("snapshots/*")) == []


@pytest.mark.parametrize("name", PRIOR_FILES)
def test_a_repository_that_lacks_a_file_is_no_prior(
    name: str, shell: Shell, hub: LoopbackHub, era5: Path
) -> None:
    (era5 / name).unlink()
    hub.publish(REPO, era5)
    result = shell("fetch-prior", "era5-zssd")
    assert result.code == 5
    assert f"{REPO} has no {name} at" in result.message
    assert "it is no whole prior" in result.message
    assert hub.asked("GET") == []


# --- from a folder


@pytest.mark.parametrize("place", ["era5-zssd", "climdown/era5-zssd", "."])
def test_a_prior_is_fetched_from_a_folder_without_any_network(
    place: str, shell: Shell, hub: LoopbackHub, era5: Path, tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    shutil.copytree(era5, stick / place)
    folder = folder_of(shell("fetch-prior", "era5-zssd", "--from", stick, "--offline"))
    assert contents(folder) == contents(era5)
    assert not any((folder / name).is_symlink() for name in PRIOR_FILES)
    assert find_prior("era5-zssd") == folder
    assert hub.log == []
    assert folder_of(shell("fetch-prior", "era5-zssd", "--from", stick)) == folder
    assert folder_of(shell("fetch-prior", "era5-zssd", "--offline")) == folder


def test_a_copied_prior_that_rotted_is_copied_again(
    hub: LoopbackHub, era5: Path, tmp_path: Path
) -> None:
    folder = fetch_prior("era5-zssd", source=str(era5))
    (folder / MODEL_FILE).write_bytes(b"rot")
    assert fetch_prior("era5-zssd", source=str(era5)) == folder
    assert contents(folder) == contents(era5)


def test_the_folder_may_be_another_cache(hub: LoopbackHub, era5: Path, tmp_path: Path) -> None:
    other = fetch_prior("era5-zssd", cache_dir=tmp_path / "other")
    assert contents(fetch_prior("era5-zssd", source=str(other))) == contents(era5)


def test_a_damaged_folder_is_refused_and_nothing_is_kept(
    shell: Shell, hub: LoopbackHub, era5: Path
) -> None:
    (era5 / MODEL_FILE).write_bytes(b"other weights")
    result = shell("fetch-prior", "era5-zssd", "--from", era5)
    assert result.code == 5
    assert f"{MODEL_FILE} has SHA-256" in result.message
    assert nothing_is_placed()
    assert list((cache().home(REPO) / "snapshots").iterdir()) == []


def test_a_folder_with_another_prior_is_refused(
    shell: Shell, hub: LoopbackHub, tiny_prior: Prior
) -> None:
    result = shell("fetch-prior", "era5-zssd", "--from", tiny_prior.folder)
    assert result.code == 5
    assert "holds the prior 'tiny', not 'era5-zssd'" in result.message
    folder = folder_of(shell("fetch-prior", "me/mine", "--from", tiny_prior.folder))
    assert contents(folder) == contents(tiny_prior.folder)


def test_a_folder_without_a_prior_is_refused(shell: Shell, hub: LoopbackHub) -> None:
    result = shell("fetch-prior", "era5-zssd", "--from", ".")
    assert result.code == 5
    assert "is neither a prior's folder nor holds era5-zssd/" in result.message


def test_links_out_of_a_folder_are_not_followed(
    shell: Shell, hub: LoopbackHub, era5: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("mine", encoding="utf-8")
    (era5 / README_FILE).unlink()
    (era5 / README_FILE).symlink_to(secret)
    result = shell("fetch-prior", "era5-zssd", "--from", era5)
    assert result.code == 5
    assert f"{README_FILE} is a link that leads out of the folder" in result.message
    assert nothing_is_placed()


@pytest.mark.parametrize("name", PRIOR_FILES)
def test_a_pipe_in_a_folder_blocks_nobody(name: str, era5: Path, hub: LoopbackHub) -> None:
    (era5 / name).unlink()
    os.mkfifo(era5 / name)
    with pytest.raises(PriorError, match=f"{name} is no (plain|regular) file"):
        fetch_prior("era5-zssd", source=str(era5))


def test_a_device_in_a_folder_is_not_read_to_its_end(era5: Path, hub: LoopbackHub) -> None:
    (era5 / CARD_FILE).unlink()
    (era5 / CARD_FILE).symlink_to("/dev/zero")
    with pytest.raises(PriorError, match="is no regular file"):
        fetch_prior("era5-zssd", source=str(era5))


def test_a_file_of_terabytes_is_not_copied(era5: Path, hub: LoopbackHub) -> None:
    with (era5 / MODEL_FILE).open("r+b") as stream:
        stream.truncate(1 << 36)  # a hole: it takes no space
    with pytest.raises(PriorError, match=f"{MODEL_FILE} has 68719476736 bytes; at most"):
        fetch_prior("era5-zssd", source=str(era5))
    with pytest.raises(PriorError, match=f"{MODEL_FILE} has 68719476736 bytes; at most"):
        read_prior(era5)


def test_a_missing_file_of_a_folder_is_named(era5: Path, hub: LoopbackHub) -> None:
    (era5 / README_FILE).unlink()
    with pytest.raises(PriorError, match=rf"is not a prior: {README_FILE}: No such file"):
        fetch_prior("era5-zssd", source=str(era5))


# --- bundled


def test_bundled_names_answer_at_once_and_offline(
    shell: Shell, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in ([], ["--offline"], ["--from", hub.url]):
        folder = folder_of(shell("fetch-prior", "eobs-iberia-zssd", *words))
        assert folder.parent.name == "bundled"
    assert hub.log == []
