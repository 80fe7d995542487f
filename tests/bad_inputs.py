"""What becomes of odd files, keys and stores, as a page: `python -m tests.bad_inputs > docs/bad-inputs.md`.

All tables are checked by tests, row by row: tests/core/formats/test_bad_inputs.py, tests/core/formats/test_bombs.py and
tests/flows/test_bad_places.py.
"""

from tests.core.formats import bad_inputs as files
from tests.core.formats import bombs
from tests.flows import bad_places as places

_INTRODUCTION = """# What becomes of odd inputs

Made by `python -m tests.bad_inputs > docs/bad-inputs.md`; every row is a test. A row that cannot be scored is rejected
with its reason and the run goes on; an object that cannot be read fails alone; where nothing could come of it, the run
stops before anything is scored. No message holds any text of a review.

## Files
"""


def main() -> None:
    """Print the page."""
    print(_INTRODUCTION)
    files.main()
    print("\n## Small files that would take gigabytes or minutes\n")
    bombs.main()
    print("\n## Keys and stores\n")
    places.main()


if __name__ == "__main__":
    main()
