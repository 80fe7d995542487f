"""The program that builds an engine, as one whose compiler comes to no end."""

import time

if __name__ == "__main__":
    time.sleep(600)
