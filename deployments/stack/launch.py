"""Replace this process by the program that a file describes, so that its keys are in no command line.

python -m deployments.stack.launch FILE
"""

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Replace this process."""
    program = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    command = program["command"]
    if program["directory"]:
        os.chdir(program["directory"])
    os.execvpe(command[0], command, program["environment"])


if __name__ == "__main__":
    main()
