"""Run a flow from the command line: `python -m flows FLOW`, or `nightshift FLOW`."""

import sys

from flows.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
