"""Checks of a scoring run's inputs before any cost arises: columns, samples, names of outputs."""

from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.core.blame import is_object_error
from tasks.core.errors import DataError, ForbiddenDataError, MissingDataError, SettingsError
from tasks.core.formats import reading
from tasks.core.formats.columns import with_columns
from tasks.core.scoring.columns import is_reserved
from tasks.core.scoring.plan import Columns, ScoringRun
from tasks.core.scoring.sharding import Entry
from tasks.scoring.store.in_work import InWork
from tasks.scoring.store.run_store import info

_SAMPLES, _SAMPLE_ROWS = 4, 100


def look_at_samples(
    objects: ExactObjects, run: ScoringRun, entries: list[Entry], in_work: InWork
) -> None:
    """Refuse the run early if all samples lack a column, or no sample may be read.

    A single bad object is reported when it is scored.
    """
    problem: DataError | None = None
    last = len(entries) - 1
    for index in sorted({last * quarter // _SAMPLES for quarter in range(_SAMPLES + 1)}):
        if in_work.is_suspect(entries[index]) or in_work.fatal(entries[index]):
            continue
        try:
            with in_work.alone(entries[index]):
                _look_at(objects, run, entries[index])
            return
        except (MissingDataError, ForbiddenDataError) as error:
            problem = problem or error
        except BaseException as error:  # an unreadable sample says nothing about the others
            if not is_object_error(error):
                raise
    if problem:
        raise problem


def _look_at(objects: ExactObjects, run: ScoringRun, entry: Entry) -> None:
    with objects.open(info(run, entry)) as stream:
        columns = [run.columns.text, *run.columns.keep]
        rows = reading.decode(run.input_uri(entry.key), stream, None, columns, run.encoding)
        sample = (row for _, row in zip(range(_SAMPLE_ROWS), rows, strict=False))
        for _ in with_columns(sample, columns, run.input_uri(entry.key)):
            pass


def refuse_reserved(columns: Columns) -> None:
    """Check the kept columns. Raises SettingsError if one has a name that predictions use, or is named twice."""
    for name in columns.keep:
        if is_reserved(name) or columns.keep.count(name) > 1:
            raise SettingsError(
                f"The column {name!r} is reserved for predictions, or is named twice",
                "keep_columns",
                "remove it from keep_columns",
            )


def refuse_shared_outputs(run: ScoringRun, entries: list[Entry]) -> None:
    """Refuse inputs that would share an output, such as `a` with JSON lines as content, and `a.jsonl`."""
    renamed = [e for e in entries if run.output_uri(e.key) != f"{run.root}/{e.key}"]
    keys = {entry.key for entry in entries} if renamed else set[str]()
    for entry in renamed:
        target = run.output_uri(entry.key).removeprefix(f"{run.root}/")
        if target in keys and run.output_uri(target) == run.output_uri(entry.key):
            raise SettingsError(
                f"{entry.key!r} and {target!r} would share one object for their predictions",
                run.input,
                "rename one of them",
            )
