"""Class costs that people type, such as `NEGATIVE=5`: one missed NEGATIVE review is as bad as five missed others."""

import math
from collections.abc import Mapping, Sequence

from tasks.core.data.labels import index_of
from tasks.core.errors import SettingsError
from tasks.core.parsing.pairs import pairs_text, parse_pairs

_FIELD = "registration.class_costs"
_LARGEST = 1e6


def parse_class_costs(text: str) -> dict[str, float]:
    """Return the costs by label as typed.

    Raises:
        ValueError: the text does not consist of pairs, or a cost is not a positive number.
    """
    return {name: _cost(name, value) for name, value in parse_pairs(text).items()}


def costs_of_labels(text: str, label_names: Sequence[str]) -> list[float]:
    """Return the cost of missing each class, in the order of the labels; empty if all are the same.

    Raises:
        SettingsError: a label does not exist, or has two costs.
    """
    costs: dict[int, float] = {}
    for name, cost in parse_class_costs(text).items():
        index = index_of(name, label_names)
        if index is None:
            raise SettingsError(
                f"No label is called {name!r}; the labels are {', '.join(label_names)}",
                _FIELD,
                "name one of them, such as --registration.class-costs LABEL=5",
            )
        if costs.setdefault(index, cost) != cost:
            raise SettingsError(f"{label_names[index]!r} has two costs", _FIELD, "keep one of them")
    values = [costs.get(index, 1.0) for index in range(len(label_names))]
    return values if len(set(values)) > 1 else []


def costs_text(class_costs: Mapping[str, float]) -> str:
    """Return the costs by label as people type them, such as NEGATIVE=5, POSITIVE=1."""
    return pairs_text({name: f"{cost:g}" for name, cost in class_costs.items()})


def _cost(name: str, value: str) -> float:
    try:
        cost = float(value)
    except ValueError:
        cost = math.nan
    if not 1 / _LARGEST <= cost <= _LARGEST:
        raise ValueError(
            f"the cost of {name!r} is {value!r}, not a number from 0.000001 to 1,000,000; write such as "
            "NEGATIVE=5"
        )
    return cost
