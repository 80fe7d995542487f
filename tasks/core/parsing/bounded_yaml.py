"""YAML that people write, read within bounds: a few hundred bytes of aliases may stand for billions of values."""

from collections import Counter
from typing import Any

import yaml

_MOST_REPEATED = 20_000  # values that aliases and merge keys may add to those that are written down


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key that stands twice instead of forgetting the first, and bombs."""

    def get_single_node(self) -> Any:
        node: Any = super().get_single_node()  # pyright: ignore[reportUnknownMemberType]
        if node is not None:
            _require_bounded(node)
        return node


def load_yaml(text: str) -> Any:
    """The value of a YAML document.

    Raises:
        yaml.YAMLError: it is none, a key stands twice, or aliases make it much larger than it is.
        RecursionError: lists within lists without end.
        ValueError: a date that there is not, and the like.
    """
    return yaml.load(text, _Loader)


def _require_bounded(root: yaml.Node) -> None:
    """Raises where a key stands twice, or aliases and merge keys repeat so much that copying takes minutes.

    Keys are counted here, before PyYAML puts merged keys into the node itself, where another node may merge it again.
    """
    sizes: dict[int, int] = {}
    under_way: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in under_way:
            raise _error("an alias refers to what it stands in", node)
        if id(node) not in sizes:
            _require_each_key_once(node)
            under_way.add(id(node))
            sizes[id(node)] = 1 + sum(map(size, _children(node)))
            under_way.remove(id(node))
        return sizes[id(node)]

    if size(root) > len(sizes) + _MOST_REPEATED:
        raise _error(
            f"aliases (*name) and merge keys (<<) repeat more than {_MOST_REPEATED:,} values; write out what is meant",
            root,
        )


def _require_each_key_once(node: yaml.Node) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    keys = Counter(
        (key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)
    )
    for (_, key), times in keys.items():
        if times > 1:
            raise _error(f"{key!r} stands {times} times", node)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _error(problem: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
