"""User-defined mapping of labels to classes: `1=NEGATIVE, 2=NEGATIVE, 4=POSITIVE, 5=POSITIVE, 3=-`."""

from tasks.core.data.labels import NotALabelError, canonical_label, meaning
from tasks.core.parsing.pairs import LEAVE_OUT, pairs_text, parse_pairs


class LabelMap:
    """A map from labels, compared by meaning, to classes, or to being left out.

    If it names a class, it has to cover every label of the data: a forgotten star would become a class.

    Raises:
        ValueError: the text does not consist of pairs, or maps one label twice.
    """

    def __init__(self, text: str = "") -> None:
        self.pairs = parse_pairs(text)
        self._targets: dict[str, str | None] = {}
        for name, value in self.pairs.items():
            label = _label(name)
            target = None if value == LEAVE_OUT else _label(value)
            if self._targets.setdefault(meaning(label), target) != target:
                raise ValueError(f"{name!r} appears twice, in two spellings with different values")
        self._classes = {meaning(target) for target in self._targets.values() if target}

    def __bool__(self) -> bool:
        return bool(self.pairs)

    def speaks_of(self, label: str) -> bool:
        return meaning(label) in self._targets

    def read(self, label: str) -> tuple[str, str]:
        """Return the mapped label, and the rule that leaves such rows out ('' if none does)."""
        key = meaning(label)
        if key in self._targets:
            target = self._targets[key]
            return (label, "left out") if target is None else (target, "")
        unmapped = self._classes and key not in self._classes
        return label, "unmapped label" if unmapped else ""

    def with_pair(self, label: str, value: str) -> str:
        """Return the text of this map with one more pair."""
        return pairs_text(self.pairs | {label: value})

    def names(self, label_names: list[str]) -> list[str]:
        """Map a source's own label names, keeping their order."""
        read = (self.read(name) for name in label_names)
        return list(dict.fromkeys(target for target, rule in read if not rule))

    def unused(self, labels: set[str]) -> list[str]:
        """Return the mapped labels that are not among the existing ones."""
        present = set(map(meaning, labels))
        return [name for name in self.pairs if meaning(_label(name)) not in present]


def _label(text: str) -> str:
    try:
        label = canonical_label(text)
    except NotALabelError as error:
        raise ValueError(f"{text!r} is {error}, and a label is one text or number") from None
    if label is None:
        raise ValueError("one of its labels is empty")
    return label
