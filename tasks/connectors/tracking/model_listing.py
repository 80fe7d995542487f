"""Listing of all models in the registry with their versions, for lineage."""

from collections.abc import Iterator

from tasks.connectors.tracking.model_registry import ModelRegistry, Registered


class RegisteredModels(ModelRegistry):
    """The model registry with methods that list everything in it.

    Raises:
        RegistryError: from every method, if MLflow refuses or is not there.
    """

    def names(self) -> list[str]:
        """Return the names of all registered models, sorted."""
        names: list[str] = []
        token: str | None = None
        with self._saying("listing the models"):
            while True:
                page = self._client.search_registered_models(page_token=token)
                names += [str(model.name) for model in page]
                token = page.token
                if not token:
                    return sorted(names)

    def everything(self) -> Iterator[tuple[Registered, list[str]]]:
        """Iterate over each version of each model, with the aliases that point to it."""
        for name in self.names():
            aliases = self.aliases(name)
            for version in self.versions(name):
                number = version.version.version
                yield version, [alias for alias, of in aliases.items() if of == number]
