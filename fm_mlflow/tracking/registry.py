"""The model registry: versions, aliases, and turns in which they change."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress

import mlflow
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.records import DataSet
from fm_mlflow.errors import TrackingError
from fm_mlflow.process.redaction import redact, redact_named
from fm_mlflow.process.signals import shield
from fm_mlflow.process.temporary import temporary_folder
from fm_mlflow.results.register import RegisteredVersion
from fm_mlflow.settings.registered import CHAMPION, PREVIOUS, REGISTERED_MODEL
from fm_mlflow.tracking import registered_metric, turns
from fm_mlflow.tracking.aliases import Aliases, aliases_of, no_way_back
from fm_mlflow.tracking.linked_versions import link_version
from fm_mlflow.tracking.model_files import ModelChangedError, check_version, warn_of_no_digest
from fm_mlflow.tracking.registered_data import (
    OtherDataSetError,
    about,
    claim,
    of_tags,
    of_version,
    owner,
    recorded,
)
from fm_mlflow.tracking.store import (
    check_reachable,
    has_code,
    if_existing,
    pages,
    registry_errors,
)

_OTHER_NAME = "--name gives another registered model, --dataset chooses among other runs"


class ChampionChangedError(Exception):
    """The champion is no longer the version that a decision was made against."""


def known_data_sets() -> dict[str, DataSet]:
    """Return the data sets that registered models belong to, by the model's name."""
    check_reachable()
    with registry_errors("read"):
        found = recorded(MlflowClient())
    if REGISTERED_MODEL not in found:  # earlier versions recorded nothing
        data, _ = Registry(REGISTERED_MODEL).data_set()
        found |= {REGISTERED_MODEL: data} if data else {}
    return found


def registered_names() -> list[str]:
    """Return the names of all registered models, whether their data set is recorded or not."""
    check_reachable()
    with registry_errors("read"):
        return sorted(model.name for model in pages(MlflowClient().search_registered_models))


class Registry:
    """One registered model, which need not exist yet.

    Every method raises TrackingError where the store does not answer or has no registry.

    Args:
        name: The registered model.
    """

    def __init__(self, name: str) -> None:
        check_reachable()
        self.name = name
        with registry_errors("open"):
            self._client = MlflowClient()

    def versions(self) -> list[RegisteredVersion]:
        """Return all versions, newest first."""
        with registry_errors("read"):
            model = self._model()
            if model is None:
                return []
            found = list(pages(self._client.search_model_versions, f"name='{self.name}'"))
        records = [_record(version, model.aliases) for version in found]
        return sorted(records, key=lambda version: version.version, reverse=True)

    def data_set(self) -> tuple[DataSet | None, str]:
        """Return the data set that the model belongs to, and where no tag says so, what does.

        None and no words where there is no such model yet.
        """
        with registry_errors("read"):
            model = self._model()
            return owner(model, self.versions()) if model is not None else (None, "")

    def check_data_set(self, data: DataSet) -> str:
        """Refuse a model of another data set than the registered model's.

        Returns:
            What says which that is, in words; none where a tag does, or there is no such model.

        Raises:
            OtherDataSetError: Names both data sets.
        """
        owned, words = self.data_set()
        if owned is not None and owned.is_other_than(data):
            raise OtherDataSetError(self.name, owned, "this model", data, _OTHER_NAME)
        return words

    def check_metric(self, objective: Objective) -> None:
        """Refuse (`OtherMetricError`) another metric than the model's champion is decided by."""
        with registry_errors("read"):
            model = self._model()
            if model is not None:
                registered_metric.check(model, objective, is_new=not self.versions())

    def aliases(self) -> Aliases:
        """Return where `champion` and `previous` point."""
        with registry_errors("read"):
            return aliases_of(self._model())

    def promote(
        self, model_uri: str, description: str, tags: Mapping[str, str], expected: int | None
    ) -> tuple[RegisteredVersion, bool]:
        """Make a model the champion; the champion until now becomes `previous`.

        A model that has a version already gets no second one. Evidence and description are the
        given ones in either case. Where the evidence has the digest of the model's files, the
        alias moves only to a version whose files in the store have it.

        Args:
            model_uri: The logged model, `models:/<id>`.
            description: Markdown.
            tags: The evidence, by name.
            expected: The champion that the decision was made against, None for none.

        Returns:
            The version, and whether it is new.

        Raises:
            ChampionChangedError: Somebody else promoted or brought back a version meanwhile.
            ModelChangedError: The version's files are others; no alias was moved.
            OtherDataSetError: The registered model belongs to another data set by now.
            OtherMetricError: Its champion is decided by another metric by now.
        """
        self._create()
        data = of_tags(tags)
        with self._turn(expected, data) as flag:
            if (objective := registered_metric.of_tags(tags)) is not None:
                self.check_metric(objective)
            existing = self._version_of(model_uri)
            with registry_errors("register the model"):
                version = self._register(model_uri, description, tags, existing)
                model = self._check_turn(flag, expected, data)
                if data is not None:
                    claim(self._client, model, data)
                if objective is not None:
                    registered_metric.claim(self._client, model, objective)
                # In this order: what is left of a crash between the two is a champion as before.
                if expected not in (None, version):
                    self._point(PREVIOUS, expected)
                self._point(CHAMPION, version)
            (record,) = (each for each in self.versions() if each.version == version)
            return record, existing is None

    def roll_back(self) -> Aliases:
        """Swap `champion` and `previous`.

        Returns:
            Where they point now.

        Raises:
            InputError: There is no previous version to go back to.
            ChampionChangedError: Somebody else promoted or brought back a version meanwhile.
            ModelChangedError: The files of the previous version are others than were verified.
            OtherDataSetError: The previous version is not of the model's data set.
        """
        before = self.aliases()
        if before.previous in (None, before.champion):
            with registry_errors("read"):
                raise no_way_back(self._client, self.name, self._model())
        with self._turn(before.champion) as flag:
            for back in self.versions():
                if back.version == before.previous:
                    self._check_version_data(back)
                    self._check_files(back.version, back.tags)
            self._check_turn(flag, before.champion)
            with registry_errors("move the aliases"):
                self._point(CHAMPION, before.previous)
                if before.champion is not None:
                    self._point(PREVIOUS, before.champion)
            return self.aliases()

    def _check_version_data(self, version: RegisteredVersion) -> None:
        """Refuse a version of another data set than the one that is recorded for the model."""
        with registry_errors("read"):
            owned = of_tags(self._client.get_registered_model(self.name).tags)
        found = of_version(version)
        if owned is not None and found is not None and owned.is_other_than(found):
            what, advice = f"version {version.version}", "nothing was changed"
            raise OtherDataSetError(self.name, owned, what, found, advice)

    def _model(self) -> RegisteredModel | None:
        return if_existing(self._client.get_registered_model, self.name)

    def _create(self) -> None:
        with registry_errors("create the registered model"):
            try:
                if self._model() is None:
                    self._client.create_registered_model(self.name, description=about())
            except MlflowException as error:
                if not has_code(error, codes.RESOURCE_ALREADY_EXISTS):
                    raise  # else another process was faster

    def _register(
        self,
        model_uri: str,
        description: str,
        tags: Mapping[str, str],
        existing: RegisteredVersion | None,
    ) -> int:
        """Make a version, or give the model's own one the new evidence; return its number.

        Either only if its files in the store are those that the evidence speaks of.
        """
        tags = {name: redact_named(name, value) for name, value in tags.items()}
        if existing is None:
            version = self._new_version(model_uri, tags)
            try:
                self._check_files(int(version), tags)
            except ModelChangedError:
                # Who may promote need not be allowed to delete; without an alias it harms nobody.
                with suppress(MlflowException):
                    self._client.delete_model_version(self.name, version)
                raise
        else:
            version = str(existing.version)
            self._check_files(existing.version, tags)
            for name, value in tags.items():
                self._client.set_model_version_tag(self.name, version, name, value)
            link_version(self._client, model_uri, self.name, existing.version)
        self._client.update_model_version(self.name, version, redact(description))
        return int(version)

    def _new_version(self, model_uri: str, tags: dict[str, str]) -> str:
        try:
            with redirect_stderr(io.StringIO()):  # it tells a person what it does
                return str(mlflow.register_model(model_uri, self.name, tags=tags).version)
        except MlflowException as error:
            # Of a model of somebody else's, MLflow makes the version, and then may not link it on
            # the model's page.
            made = self._version_of(model_uri) if has_code(error, codes.PERMISSION_DENIED) else None
            if made is None:
                raise
            return str(made.version)

    def _version_of(self, model_uri: str) -> RegisteredVersion | None:
        return next((each for each in self.versions() if each.model_uri == model_uri), None)

    def _check_files(self, version: int, tags: Mapping[str, str]) -> None:
        """Make sure, at the last moment, that a version's files in the store were verified."""
        if (digest := tags.get(keys.MODEL_DIGEST)) is None:
            warn_of_no_digest(self.name, version)
        else:
            with temporary_folder() as folder:
                check_version(self.name, version, digest, folder)

    def _point(self, alias: str, version: int | None) -> None:
        self._client.set_registered_model_alias(self.name, alias, str(version))

    @contextmanager
    def _turn(self, champion: int | None, data: DataSet | None = None) -> Iterator[str]:
        """Let one process at a time, on any machine, change the aliases; give its flag.

        The registry has no compare-and-set. But its tags are read back in the order in which they
        were written: so each process first raises a flag (a tag with a name of its own), then
        looks for other flags; of two, at least the later one sees the other's and takes its own
        down for a moment. A flag that does not go is of a process that died, and is removed.

        Args:
            champion: The expected one; with another, it is nobody's turn.
            data: That of the model to promote; in a registered model of another likewise.
        """
        flag = turns.new_flag()
        try:
            turns.wait(self._client, self.name, flag)
            with shield():
                self._check_turn(flag, champion, data)
                yield flag
        except BaseException:
            with suppress(TrackingError):  # the first error says what is wrong
                self._end_turn(flag)
            raise
        self._end_turn(flag)

    def _end_turn(self, flag: str) -> None:
        with shield(), registry_errors("end the turn"):
            turns.lower(self._client, self.name, flag)

    def end_abandoned_turns(self) -> None:
        """Remove what promotions left that were killed on this host."""
        with suppress(TrackingError), registry_errors("end a turn"):
            turns.standing(self._client, self.name)

    def _check_turn(
        self, flag: str, champion: int | None, data: DataSet | None = None
    ) -> RegisteredModel:
        """Make sure that the turn is still ours, and data set and champion the expected ones."""
        with registry_errors("read"):
            model = self._client.get_registered_model(self.name)
        if flag not in model.tags:
            raise TrackingError(
                f"the promotion took longer than {turns.ABANDONED_SECONDS:.0f} s and lost its "
                "turn; see --list, and run it again"
            )
        owned = of_tags(model.tags)
        if data is not None and owned is not None and owned.is_other_than(data):
            raise OtherDataSetError(self.name, owned, "this model", data, _OTHER_NAME)
        if aliases_of(model).champion != champion:
            raise ChampionChangedError
        return model


def _record(version: ModelVersion, aliases: Mapping[str, str]) -> RegisteredVersion:
    number = int(version.version)
    # An older server knows the logged model by the version's source only.
    source = f"models:/{version.model_id}" if version.model_id else str(version.source)
    return RegisteredVersion(
        version=number,
        aliases=tuple(alias for alias, at in sorted(aliases.items()) if int(at) == number),
        run_id=version.run_id or None,
        model_uri=source if source.startswith("models:/m-") else None,
        tags=dict(version.tags),
        created=int(version.creation_timestamp or 0),
    )
