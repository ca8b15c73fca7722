"""`evaluate_files()`: an evaluation with the files that are written of it."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from climdown import files
from climdown.errors import ConfigError
from climdown.evaluation.evaluate import Evaluation, Progress, compute, gather
from climdown.evaluation.exports import write_csv, write_json, write_markdown
from climdown.evaluation.finding import Finding
from climdown.evaluation.ml_bench import export_ml_bench, ml_bench_ensemble
from climdown.evaluation.planning import make_plan
from climdown.evaluation.request import Request
from climdown.evaluation.storage import StateStore
from climdown.evaluation.verdict import findings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """The files to write, None for those that are not.

    Attributes:
        report: self-contained HTML.
        json, csv, markdown: scores.
        export: the output itself in the layout of CORDEX ML-Bench.
        states: the folder where sums are kept when all is done.
    """

    report: Path | None = None
    json: Path | None = None
    csv: Path | None = None
    markdown: Path | None = None
    export: Path | None = None
    states: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Those that are files."""
        several = (self.report, self.json, self.csv, self.markdown, self.export)
        return tuple(path for path in several if path is not None)


def evaluate_files(
    request: Request, wanted: Wanted, *, command: str, progress: Progress | None = None
) -> tuple[Evaluation, list[Finding]] | None:
    """Judge outputs and write what is wanted; None where other shards have still to finish.

    Raises:
        ConfigError, InputError, GridError: files that cannot be compared.
        ResumeError: sums of another evaluation lie in the folder.
        OutputError: a file exists already, or cannot be written.
    """
    _check(request, wanted)
    with ExitStack() as held:
        if request.shard is None:
            _hold(held, request, wanted, wait=False)
        exported = None if wanted.export is None else ml_bench_ensemble(request)
        plan = make_plan(request)
        folder = held.enter_context(_folder(wanted))
        store = StateStore.open(folder, plan.identity, discard=request.overwrite)
        if compute(request, plan, store, progress=progress) > 0:
            return None
        if request.shard is not None:
            _hold(held, request, wanted, wait=True)
            if _finished_by_another(request, wanted, folder):
                log.info("another shard has finished and written the results")
                return None
        evaluation = gather(request, plan, store)
        found = findings(evaluation)
        _write(evaluation, found, wanted, command)
        if exported is not None and wanted.export is not None:
            export_ml_bench(wanted.export, exported, command=command)
        if wanted.states is None and wanted.paths:
            store.remove()
    return evaluation, found


def _check(request: Request, wanted: Wanted) -> None:
    """Look at the files to write before anything is computed."""
    places = [path.resolve() for path in wanted.paths]
    if len(set(places)) < len(places):
        raise ConfigError("two of the files to write have one name; give each its own")
    if request.shard is not None and not (wanted.paths or wanted.states):
        raise ConfigError(
            "--shard needs a place where shards meet: --states DIR or a file to write"
        )
    for path in wanted.paths:
        files.refuse_inputs(path, _inputs(request))
        files.check_output(path, overwrite=request.overwrite)


def _inputs(request: Request) -> list[str]:
    outputs = [path for paths in request.outputs.values() for path in paths]
    return [*outputs, *request.reference, *request.input]


def _hold(held: ExitStack, request: Request, wanted: Wanted, *, wait: bool) -> None:
    """Hold all files to write; shards wait for one another, others are refused."""
    for path in wanted.paths:
        if wait:
            held.enter_context(files.claimed(path, wait=True))
        else:
            held.enter_context(files.owned(path, _inputs(request), overwrite=request.overwrite))


def _finished_by_another(request: Request, wanted: Wanted, folder: Path) -> bool:
    """Whether another shard wrote everything while this one waited for it."""
    there = any(path.exists() for path in wanted.paths)
    return not folder.is_dir() or (there and not request.overwrite)


@contextmanager
def _folder(wanted: Wanted) -> Iterator[Path]:
    """Where sums are kept: as asked, else hidden beside the first file, else for this time only."""
    if wanted.states is not None:
        yield wanted.states
    elif wanted.paths:
        yield files.parts_folder(wanted.paths[0])
    else:
        with tempfile.TemporaryDirectory(prefix="climdown-") as folder:
            yield Path(folder)


def _write(evaluation: Evaluation, found: list[Finding], wanted: Wanted, command: str) -> None:
    if wanted.report is not None:
        from climdown.evaluation.report import write_report  # brings matplotlib

        write_report(wanted.report, evaluation, found, command=command)
    if wanted.json is not None:
        write_json(wanted.json, evaluation, found, command=command)
    if wanted.csv is not None:
        write_csv(wanted.csv, evaluation.scores)
    if wanted.markdown is not None:
        write_markdown(wanted.markdown, evaluation)
