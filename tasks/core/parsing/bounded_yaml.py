"""Bounded reading of YAML that people write: a few hundred bytes of aliases may stand for billions of values."""

from collections import Counter
from typing import Any

import yaml

_MOST_REPEATED = 20_000  # values that aliases and merge keys may add to the written ones


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader that also refuses duplicate keys, instead of dropping the first, and alias bombs."""

    def get_single_node(self) -> Any:
        node: Any = super().get_single_node()  # pyright: ignore[reportUnknownMemberType]
        if node is not None:
            _require_bounded(node)
        return node


def load_yaml(text: str) -> Any:
    """Return the value of a YAML document.

    Raises:
        yaml.YAMLError: it is not YAML, has a duplicate key, or aliases make it much larger than its text.
        RecursionError: it is nested too deeply.
        ValueError: it has an invalid value, such as a date that does not exist.
    """
    return yaml.load(text, _Loader)


def _require_bounded(root: yaml.Node) -> None:
    """Raise if a key is duplicated, or if aliases and merge keys repeat so much that copying takes minutes.

    Keys are counted here, before PyYAML puts merged keys into the node itself, which another node may merge again.
    """
    sizes: dict[int, int] = {}
    under_way: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in under_way:
            raise _error("an alias refers to a value that contains it", node)
        if id(node) not in sizes:
            _require_each_key_once(node)
            under_way.add(id(node))
            sizes[id(node)] = 1 + sum(map(size, _children(node)))
            under_way.remove(id(node))
        return sizes[id(node)]

    if size(root) > len(sizes) + _MOST_REPEATED:
        raise _error(
            f"aliases (*name) and merge keys (<<) repeat more than {_MOST_REPEATED:,} values; write the values out",
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
            raise _error(f"the key {key!r} appears {times} times", node)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _error(problem: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
