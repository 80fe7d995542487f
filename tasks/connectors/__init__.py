"""The world outside: object store, model registry, hub, local servers. No orchestrator here."""
