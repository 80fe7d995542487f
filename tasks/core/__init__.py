"""The core of Nightshift: pure functions and small classes without orchestrator, store, registry or environment.

Everything here runs on a bare machine with torch and transformers; the modules around it (`tasks/*.py`) pass in
folders, parameters and listeners.
"""
