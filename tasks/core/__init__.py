"""The work itself: pure functions and small classes that know no orchestrator, store, registry or environment.

Everything here runs on a bare machine with torch and transformers; the shell around it (`tasks/*.py`) hands it folders,
parameters and listeners.
"""
