"""`deployments.stack.launch` by its former name.

Programs of a service that was started before the packages were named so restart by it until the service is stopped.
"""

from deployments.stack.launch import main

if __name__ == "__main__":
    main()
