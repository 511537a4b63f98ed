"""Where the aliases of a registered model point."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow.entities.model_registry import RegisteredModel
from mlflow.tracking import MlflowClient

from fm_mlflow.errors import InputError
from fm_mlflow.settings.registered import CHAMPION, PREVIOUS

_MOST_NAMES_SHOWN = 10


@dataclass(frozen=True)
class Aliases:
    """Where the two aliases point; None where there is no such alias."""

    champion: int | None
    previous: int | None


def aliases_of(model: RegisteredModel | None) -> Aliases:
    """Return the aliases of a registered model; None of it where there is none."""
    given = model.aliases if model is not None else {}
    numbers = {alias: int(version) for alias, version in given.items()}
    return Aliases(numbers.get(CHAMPION), numbers.get(PREVIOUS))


def no_way_back(client: MlflowClient, name: str, model: RegisteredModel | None) -> InputError:
    """Return the error of a rollback for which there is no champion before the present one.

    Args:
        client: Of the registry.
        name: Of the registered model.
        model: None where there is none of this name.
    """
    accepted, names = "a registered model that had a champion before the present one", []
    champion = aliases_of(model).champion
    if model is None:
        names = [m.name for m in client.search_registered_models(max_results=_MOST_NAMES_SHOWN)]
        some = f"there are {', '.join(names)}" if names else "the store has none"
        accepted += f"; {some} (--name)"
    elif champion is None:
        accepted += "; this one has no champion yet: `fm-mlflow register` promotes a model"
    else:
        accepted += (
            f"; the champion of this one is version {champion}, and no version is marked as the "
            f"one before it (alias {PREVIOUS!r}), so there is nothing to go back to"
        )
    return InputError("rollback", name, accepted, names)
