"""What `make latest` installs, and what it prints of it."""

from deployments.latest import changes, newest_requirements

_PROJECT = """
[project]
dependencies = ["prefect>=3.9,<3.10", "torch>=2.9", "sqlalchemy[asyncio]>=2.0,<2.1", "pinned==4.48"]
[project.optional-dependencies]
dev = ["pytest>=9"]
openvino = ["nncf>=3.2,!=3.3"]
lora = []
ray = ["ray"]
"""


def test_upper_bounds_are_left_out_and_torch_stays() -> None:
    newest = newest_requirements(_PROJECT)
    assert newest == [
        "prefect>=3.9",
        "sqlalchemy[asyncio]>=2.0",
        "pinned",
        "pytest>=9",
        "nncf!=3.3,>=3.2",
    ]


def test_differences_from_the_pins_are_named() -> None:
    pinned = {"prefect": "3.9.1", "torch": "2.13.0", "gone": "1"}
    installed = {"prefect": "3.10.0", "torch": "2.13.0+cpu", "new": "1.0"}
    assert changes(pinned, installed) == ["new: not pinned -> 1.0", "prefect: 3.9.1 -> 3.10.0"]
