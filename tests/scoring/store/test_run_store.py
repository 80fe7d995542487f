"""Records of a scoring run that somebody hostile has written: they lead nowhere but to their own place."""

import pytest

from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import StoreError
from tasks.core.scoring.plan import ScoringRun
from tasks.scoring.store.run_store import read_run, require_run
from tasks.scoring.store.success_markers import is_older_run_under_way
from tests.core.scoring.scoring_runs import scoring_run


def kept(store: ObjectStore, made: ScoringRun, place: str) -> None:
    store.write_bytes(made.model_dump_json().encode(), f"{place}/manifest.json")


def test_a_manifest_counts_only_at_its_own_place(store: ObjectStore, prefix: str) -> None:
    """Its outputs would go where it says."""
    objects, made = ExactObjects(store), scoring_run(output=f"{prefix}/out/")
    kept(store, made, made.place)
    assert read_run(objects, made.place) == made == require_run(objects, f"{made.place}/")
    elsewhere = made.model_copy(update={"output": f"{prefix}/theirs/"})
    for other in (elsewhere, made.model_copy(update={"run": "../../x"})):
        kept(store, other, made.place)
        with pytest.raises(StoreError, match="that of another run"):
            read_run(objects, made.place)


@pytest.mark.parametrize(
    "said",
    ["/etc", "s3://elsewhere/_runs/1", "http://evil.test/_runs/1", '"}spoilt'],
    ids=["file", "bucket", "web", "spoilt"],
)
def test_a_mark_leads_to_no_other_place(said: str, store: ObjectStore, prefix: str) -> None:
    objects, made = ExactObjects(store), scoring_run(output=f"{prefix}/{len(said)}/")
    store.write_bytes(f'{{"under way": "{said}"}}'.encode(), f"{made.root}/_INCOMPLETE")
    assert not is_older_run_under_way(objects, made)
    other = f"{made.root}/_runs/other"
    store.write_bytes(f'{{"under way": "{other}"}}'.encode(), f"{made.root}/_INCOMPLETE")
    assert is_older_run_under_way(objects, made)
