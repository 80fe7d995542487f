"""Every order in which the requests of a few movers of a champion can reach the log and MLflow, tried one by one.

The movers run the code of `connectors/tracking/champion.py` on a log and a registry in memory, each in a greenlet that
gives way before every request that others could notice. Orders that lead to the same state (the same log and aliases,
the same answers to each mover) are followed once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from greenlet import getcurrent, greenlet

from tasks.connectors.tracking.champion import CHAMPION, PREVIOUS, Champions, Mover
from tasks.core.errors import ConflictError
from tasks.core.records import ModelVersion, Promotion

MODEL = "m"
Step = tuple[str, int]  # what happens, and to whom
_OLD = 1e9  # seconds


@dataclass
class World:
    """Log and aliases, and what has been done to them."""

    moves: dict[int, Promotion] = field(default_factory=dict[int, Promotion])
    done: set[int] = field(default_factory=set[int])
    pending: dict[str, str] = field(default_factory=dict[str, str])
    aliases: dict[str, str] = field(default_factory=dict[str, str])
    by_hand: list[str] = field(default_factory=list[str])
    excused: list[str] = field(default_factory=list[str])  # of these what nobody can tell from ours
    age: float = 0.0  # of what is announced

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for two worlds between which nobody can tell."""
        return (
            tuple(map(_short, self.moves.values())),
            tuple(sorted(self.done)),
            tuple(sorted(self.pending.items())),
            tuple(sorted(self.aliases.items())),
            tuple(self.by_hand),
            tuple(self.excused),
        )

    @property
    def last(self) -> Promotion:
        """The newest move."""
        return self.moves[max(self.moves)]


class Actor:
    """Somebody who makes requests, one at a time.

    Args:
        name: of it.
        does: what it does, with champions of its own; what it returns is what it was told.
    """

    def __init__(self, name: str, does: Callable[[Champions], Any]) -> None:
        self.name, self._does = name, does
        self.heard = 0  # hash of all answers so far
        self.request = ""  # the next one
        self.told: Any = None
        self.writes: Callable[[], None] | None = None  # what the next request does to an alias
        self.dead = False
        self._announced = 0
        self._greenlet: greenlet | None = None

    def start(self, world: World) -> None:
        """Run to the first request."""
        champions = Champions(_Registry(world, self), _Log(world, self))  # pyright: ignore[reportArgumentType]

        def run() -> None:
            try:
                self.told = self._does(champions)
            except ConflictError as error:
                self.told = error

        self._greenlet = greenlet(run)
        self._greenlet.switch()

    @property
    def over(self) -> bool:
        """Whether it makes no more requests."""
        return self.dead or self._greenlet is None or self._greenlet.dead

    def go_on(self) -> None:
        """Make the request, and run to the next."""
        assert self._greenlet is not None
        self._greenlet.switch()

    def ask(self, request: str, do: Callable[[], Any], writes: bool = False) -> Any:
        """Give way, make a request, and keep the answer."""
        if getcurrent() is self._greenlet:
            self.request, self.writes = request, do if writes else None
            getcurrent().parent.switch()  # pyright: ignore[reportOptionalMemberAccess]
        answer = do()
        self.heard = hash((self.heard, request, _short(answer)))
        return answer

    def token(self) -> str:
        """A name for an announcement, the same in every order."""
        self._announced += 1
        return f"{self.name}{self._announced}"


def _short(answer: Any) -> Any:
    if isinstance(answer, Promotion):
        return answer.number, answer.who, answer.to_version, answer.kind
    return tuple(sorted(answer.items())) if isinstance(answer, dict) else answer


class _Log:
    def __init__(self, world: World, actor: Actor) -> None:
        self._world, self._ask, self._actor = world, actor.ask, actor

    def last(self, model: str) -> Promotion | None:
        return self._ask("last", lambda: self._world.last if self._world.moves else None)

    def read(self, model: str, number: int) -> Promotion | None:
        return self._ask("read", lambda: self._world.moves.get(number))

    def backwards(self, move: Promotion) -> Iterator[Promotion]:
        for number in range(move.number, 0, -1):
            yield self._world.moves[number]

    def append(self, move: Promotion) -> bool:
        def do() -> bool:
            return self._world.moves.setdefault(move.number, move) is move

        return self._ask("append", do)

    def is_done(self, move: Promotion) -> bool:
        return self._ask("is_done", lambda: move.number in self._world.done)

    def mark_done(self, move: Promotion, when: str) -> None:
        self._ask("mark_done", lambda: self._world.done.add(move.number))

    def begin_write(self, model: str, version: str) -> str:
        uri = self._actor.token()
        self._ask("begin_write", lambda: self._world.pending.__setitem__(uri, version))
        return uri

    def end_write(self, uri: str) -> None:
        self._ask("end_write", lambda: self._world.pending.pop(uri, None) and None)

    def pending_writes(self, model: str) -> dict[str, tuple[str, float]]:
        def do() -> dict[str, tuple[str, float]]:
            return {uri: (v, self._world.age) for uri, v in sorted(self._world.pending.items())}

        return self._ask("pending_writes", do)


class _Registry:
    def __init__(self, world: World, actor: Actor) -> None:
        self._world, self._ask = world, actor.ask

    def aliases(self, model: str) -> dict[str, str]:
        return self._ask("aliases", lambda: dict(self._world.aliases))

    def resolve(self, model: str, number: str) -> ModelVersion:
        return version(number)

    def tags_of(self, version: ModelVersion) -> dict[str, str]:
        return {}

    def set_alias(self, version: ModelVersion, alias: str) -> None:
        def do() -> None:
            self._world.aliases[alias] = version.version

        do() if alias == PREVIOUS else self._ask("set_alias", do, writes=True)

    def remove_alias(self, model: str, alias: str) -> None:
        def do() -> None:
            self._world.aliases.pop(alias, None)

        do() if alias == PREVIOUS else self._ask("set_alias", do, writes=True)


def version(number: str) -> ModelVersion:
    """A version of the one model there is."""
    return ModelVersion(name=MODEL, version=number, model_digest="", run_id="")


def promoter(name: str, to: str) -> Actor:
    """Looks who is champion, and promotes a version."""

    def promote(champions: Champions) -> Promotion:
        seen = champions.reconcile(MODEL).champion
        return champions.move(version(to), seen, Mover("promote", name, "a test"))

    return Actor(name, promote)


def reader(name: str) -> Actor:
    """Asks who is champion."""
    return Actor(name, lambda champions: champions.reconcile(MODEL))


@dataclass(frozen=True)
class Story:
    """Who takes part in what is tried.

    Args:
        actors: makes them anew.
        hands: versions that a person sets the alias to, one after the other, at any moment.
        dies: whether the first actor may die, also with a request under way that the server answers later.
        begun: whether somebody has died before, between the record of a move to version 2 and the alias.
        stalls: how often somebody may be held, before any request, while another goes on.
    """

    actors: Callable[[], Sequence[Actor]]
    hands: Sequence[str] = ()
    dies: bool = False
    begun: bool = False
    stalls: int = 2


class Run:
    """One order of requests, as far as it has come."""

    def __init__(self, story: Story) -> None:
        self.story, self.world = story, _before(story.begun)
        self.actors = list(story.actors())
        self._flying: Callable[[], None] | None = None
        self._died = False
        self._stalls, self._running = story.stalls, -1
        for actor in self.actors:
            actor.start(self.world)

    @property
    def steps(self) -> list[Step]:
        """What may happen next."""
        alive = [n for n, actor in enumerate(self.actors) if not actor.over]
        if self._running in alive:
            others = [n for n in alive if n != self._running] if self._stalls else []
            alive = [self._running, *others]
        found = [("goes on", n) for n in alive]
        if len(self.world.by_hand) < len(self.story.hands):
            found.append(("by hand", 0))
        if self.story.dies and not self._died and not self.actors[0].over:
            found.append(("dies", 0))
        if self._flying:
            found.append(("arrives", 0))
        return found

    def take(self, step: Step) -> None:
        """Let it happen."""
        kind, who = step
        if kind == "goes on":
            if self._running not in (who, -1) and not self.actors[self._running].over:
                self._stalls -= 1
            self._running = who
            self.actors[who].go_on()
        elif kind == "dies":
            self._died = self.actors[0].dead = True
            self._flying = self.actors[0].writes
        elif kind == "arrives" and self._flying:
            self._flying()
            self._flying = None
        else:
            self._by_hand(self.story.hands[len(self.world.by_hand)])

    def _by_hand(self, number: str) -> None:
        """A person sets the alias, and is excused from being seen where docs/registry.md says so."""
        world, last = self.world, self.world.last
        between = self._flying or any(a.writes and not a.over for a in self.actors)
        pending = world.pending.values()
        ended = last.number in world.done and last.to_version not in pending
        back = number == last.from_version and not ended
        if between or back or number == last.to_version or number in pending:
            world.excused.append(number)
        world.by_hand.append(number)
        world.aliases[CHAMPION] = number

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for two runs that can only go on in the same ways."""
        heard = tuple(actor.heard for actor in self.actors)
        now = self._running, self._stalls, self._died, self._flying is not None
        return (self.world.key, heard, now)

    def end(self) -> None:
        """The dead are dead for long, and somebody asks who is champion."""
        self.world.age = _OLD
        final = reader("final")
        final.start(self.world)
        while not final.over:
            final.go_on()


def _before(begun: bool) -> World:
    """Version 1 is champion."""
    first = Promotion(
        number=1, model=MODEL, kind="promote", from_version="", to_version="1",
        who="", why="", when="", flow_run="", evidence="",
    )  # fmt: skip
    world = World({1: first}, {1}, {}, {CHAMPION: "1"})
    if begun:
        changed = {"number": 2, "from_version": "1", "to_version": "2"}
        world.moves[2] = first.model_copy(update=changed)
    return world


def explore(story: Story, check: Callable[[Run], None]) -> tuple[int, int]:
    """Follow every order to its end, and check each end; returns how many states and ends there were."""
    seen: set[int] = set()
    ends = 0
    open_: list[list[Step]] = [[]]
    while open_:
        path = open_.pop()
        run = Run(story)
        for step in path:
            run.take(step)
        while True:
            if (key := hash(run.key)) in seen:
                break
            seen.add(key)
            if not (steps := run.steps):
                ends += 1
                check(run)
                break
            open_ += [[*path, step] for step in steps[1:]]
            path = [*path, steps[0]]
            run.take(steps[0])
    return len(seen), ends
