"""The protocol of moving a champion, in every order of its requests: stalls, deaths and moves by hand anywhere."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tasks.connectors.tracking import champion
from tasks.connectors.tracking.champion import BY_HAND, CHAMPION
from tasks.core.records import Promotion
from tests.connectors.tracking import interleavings
from tests.connectors.tracking.interleavings import Run, Story, explore, promoter, reader


@pytest.fixture(autouse=True)
def _no_time_passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(champion.time, "sleep", lambda _: None)
    monkeypatch.setattr(champion, "_now", lambda: "")
    monkeypatch.setattr(champion, "_clock", lambda: 0.0)
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def check(run: Run) -> None:
    """What holds at every end, whatever has happened before it."""
    world, died = run.world, any(actor.dead for actor in run.actors)
    if not died and not world.by_hand:
        assert world.aliases[CHAMPION] == world.last.to_version, "and nobody else had to look"
        assert not world.pending
    run.end()
    assert world.aliases[CHAMPION] == world.last.to_version and not world.pending
    for actor in run.actors:
        if isinstance(actor.told, Promotion):
            assert world.moves[actor.told.number] == actor.told, "who was told so is in the log"
    moves = [world.moves[number] for number in sorted(world.moves)]
    assert [move.number for move in moves] == list(range(1, len(moves) + 1))
    assert [m.to_version for m in moves[:-1]] == [m.from_version for m in moves[1:]]
    by_hand = [move.to_version for move in moves if move.kind == BY_HAND]
    if not world.excused:
        assert by_hand[-1:] == world.by_hand[-1:], "a person's move is kept"
        assert by_hand in ([], world.by_hand, world.by_hand[1:]), "and there are no others"
    assert world.by_hand or not by_hand, "no write of ours is taken for a person's"


STORIES = {
    "two promote": Story(lambda: [promoter("a", "2"), promoter("b", "3")]),
    "two promote, one dies": Story(
        lambda: [promoter("a", "2"), promoter("b", "3")], dies=True, stalls=1
    ),
    "two end the move of one who died, one promotes": Story(
        lambda: [reader("r"), promoter("b", "3")], begun=True
    ),
    "three at once": Story(lambda: [promoter("a", "2"), promoter("b", "3"), reader("r")], stalls=1),
    "a reader dies": Story(
        lambda: [reader("r"), promoter("b", "3")], begun=True, dies=True, stalls=1
    ),
    "by hand": Story(lambda: [promoter("a", "2"), reader("r")], hands=["4"], stalls=1),
    "back by hand": Story(lambda: [promoter("a", "2"), reader("r")], hands=["1"], stalls=1),
    "by hand, twice": Story(lambda: [promoter("a", "2")], hands=["4", "1"]),
    "by hand, and one dies": Story(
        lambda: [promoter("a", "2"), promoter("b", "3")], hands=["4"], dies=True, stalls=0
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_every_order_of_requests(name: str) -> None:
    states, ends = explore(STORIES[name], check)
    assert states > ends > 20


@pytest.mark.slow
@pytest.mark.parametrize("name", STORIES)
def test_every_order_with_one_more_stall(name: str) -> None:
    story = STORIES[name]
    states, ends = explore(replace(story, stalls=story.stalls + 1), check)
    assert states > ends > 20


def test_without_announcements_a_promotion_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same orders find what the announcements are for."""
    monkeypatch.setattr(interleavings._Log, "pending_writes", lambda *_: {})
    with pytest.raises(AssertionError):
        explore(STORIES["two promote"], check)
