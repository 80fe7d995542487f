"""Connectors to external systems: object store, model registry, hub, local servers. They do not depend on Prefect."""
