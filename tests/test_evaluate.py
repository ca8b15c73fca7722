"""`climdown evaluate`: one result, however the work is cut, and whatever happens to it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from climdown.files import parts_folder
from tests.commands import Shell
from tests.judging import assert_same_scores, scores_in, write_case
from tests.series import WINTER, daily

DAYS = daily(2001, 6, months=WINTER)
WORDS = ("evaluate", "out.nc", "--reference", "ref.nc", "--input", "gcm.nc")
# The command line with a task for every step, each a little slow: units come one by one.
_SLOW = (
    sys.executable,
    "-c",
    "import time\n"
    "from climdown.evaluation import work\n"
    "own = work.tasks\n"
    "def slow(*given):\n"
    "    time.sleep(0.3)\n"
    "    return own(*given)\n"
    "work._CHUNK_BYTES = 1\n"
    "from climdown.evaluation import evaluate\n"
    "evaluate.tasks = slow\n"
    "from climdown.__main__ import main; main()",
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers, each a process of its own."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as running:
        yield running


@pytest.fixture
def whole(shell: Shell) -> Path:
    """Scores that were computed in one go."""
    write_case(DAYS)
    result = shell(*WORDS, "--json", "whole.json")
    assert result.code == 0, result.err
    return Path("whole.json")


def test_days_are_found_to_be_the_same(whole: Path) -> None:
    found = scores_in(whole)
    assert {place[0] for place in found} == {"out", "bilinear"}
    assert {variable for output, variable, _ in found if output == "out"} >= {"tas", "pr"}
    assert 0 < found["out", "tas", "crps"]["value"] < found["bilinear", "tas", "crps"]["value"]
    assert found["out", "tas", "crps"]["low"] < found["out", "tas", "crps"]["high"]


def test_chunks_give_the_same(shell: Shell, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("climdown.evaluation.work._CHUNK_BYTES", 40_000)
    assert shell(*WORDS, "--json", "cut.json").code == 0
    assert_same_scores("cut.json", whole)


@pytest.mark.parametrize("pairing", ["--paired", "--unpaired"])
def test_shards_give_the_same(shell: Shell, pairing: str) -> None:
    write_case(DAYS)
    assert shell(*WORDS, pairing, "--json", "whole.json").code == 0
    first = shell(*WORDS, pairing, "--json", "parts.json", "--shard", "1/2")
    assert first.code == 0, first.err
    assert "units of work are still to come" in first.err
    assert not Path("parts.json").exists()
    assert first.out == ""
    second = shell(*WORDS, pairing, "--json", "parts.json", "--shard", "2/2")
    assert second.code == 0, second.err
    assert_same_scores("parts.json", "whole.json")
    assert not parts_folder(Path("parts.json")).exists()


def test_killed_evaluations_go_on_where_they_were(shell: Shell, whole: Path) -> None:
    folder = parts_folder(Path("killed.json"))
    process = subprocess.Popen(
        [*_SLOW, *WORDS, "--json", "killed.json"], stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 120
    while len(list(folder.glob("unit-*.npz"))) < 2 and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    process.communicate()
    assert not Path("killed.json").exists()
    again = shell(*WORDS, "--json", "killed.json")
    assert again.code == 0, again.err
    assert "resuming:" in again.err
    assert_same_scores("killed.json", whole)
    assert not folder.exists()


def test_a_cluster_gives_the_same(shell: Shell, whole: Path, cluster: Any) -> None:
    address = cluster.scheduler_address
    result = shell(*WORDS, "--json", "dask.json", "--scheduler-address", address)
    assert result.code == 0, result.err
    assert_same_scores("dask.json", whole)


def test_damaged_sums_are_made_anew(shell: Shell, whole: Path) -> None:
    kept = (*WORDS, "--json", "kept.json", "--states", "sums", "--overwrite")
    assert shell(*kept).code == 0
    damaged, cut, other, *_ = sorted(Path("sums").glob("unit-*.npz"))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(bytes(content))
    cut.write_bytes(cut.read_bytes()[:-1])
    other.write_bytes(damaged.with_name("unit-000-00003.npz").read_bytes())
    result = shell(*kept)
    assert result.code == 0, result.err
    assert result.err.count("it is computed anew") == 3
    assert_same_scores("kept.json", whole)


def test_sums_of_another_evaluation_are_refused(shell: Shell) -> None:
    write_case(DAYS)
    assert shell(*WORDS, "--states", "sums").code == 0
    result = shell(*WORDS, "--states", "sums", "--members", 2)
    assert result.code == 7
    assert "sums holds states of another evaluation" in result.message
    assert shell(*WORDS, "--states", "sums", "--members", 2, "--overwrite").code == 0


def test_sums_that_are_there_are_not_made_again(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_case(DAYS)
    assert shell(*WORDS, "--states", "sums", "--json", "one.json").code == 0

    def never(*_: object) -> None:
        raise AssertionError("nothing is to be read again")

    monkeypatch.setattr("climdown.evaluation.evaluate.tasks", never)
    result = shell(*WORDS, "--states", "sums", "--json", "two.json", "--resamples", 200)
    assert result.code == 0, result.err
    assert_same_scores("two.json", "one.json", within=0.0)


def test_nothing_is_left_where_nothing_is_written(shell: Shell) -> None:
    write_case(DAYS)
    before = {path.name for path in Path.cwd().iterdir()}
    assert shell(*WORDS).code == 0
    assert {path.name for path in Path.cwd().iterdir()} == before


@pytest.mark.parametrize("write", ["--json", "--csv", "--markdown"])
def test_files_are_not_overwritten_unless_told(shell: Shell, write: str) -> None:
    write_case(DAYS)
    Path("mine").write_text("precious", encoding="utf-8")
    result = shell(*WORDS, write, "mine")
    assert result.code == 6
    assert "mine exists already; give --overwrite" in result.message
    assert Path("mine").read_text(encoding="utf-8") == "precious"
    result = shell(*WORDS, write, "ref.nc", "--overwrite")
    assert result.code == 2
    assert "ref.nc is both input and output" in result.message
