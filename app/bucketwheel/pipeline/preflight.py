"""Check what publishing needs before a run writes data: for its own stages, and for those of later jobs.

A chain of jobs fails in its first job if the last one could not publish, and not after the hours between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bucketwheel import plugins
from bucketwheel.catalogs.definitions import table_names
from bucketwheel.catalogs.publish import check_publishable
from bucketwheel.contracts import Progress, Services
from bucketwheel.errors import BucketwheelError, MissingDependencyError
from bucketwheel.pipeline.rejections import DATA
from bucketwheel.pipeline.select_run import PUBLISHING
from bucketwheel.pipeline.services import selected_stages
from bucketwheel.runs.manifest import Manifest
from bucketwheel.settings import PROMOTE, Settings


def check_packages(settings: Settings, stages: Sequence[str], later: Sequence[str] | None) -> None:
    """Import the backends of the selected stages, and of the `later` stages if the caller named them.

    Raises:
        SelectionError: there is no such backend, or a later stage is not configured.
        MissingDependencyError: a package is missing.
    """
    named = [*stages, *(selected_stages(settings, later, "--later-stages") if later else ())]
    plugins.check(
        settings,
        engine=any(name in DATA for name in stages),
        catalog=any(name in PUBLISHING for name in named),
        executor="ctas" in named,
    )


@dataclass(frozen=True)
class Preflight:
    """The checks of one run.

    Attributes:
        services: of the run.
        selected: the stages that this process will run.
        named: the stages that later jobs will run; None if the caller did not say. A run that writes data then
            assumes all configured stages that follow its own.
    """

    services: Services
    selected: Sequence[str]
    named: tuple[str, ...] | None

    @property
    def first(self) -> str:
        """The first stage that writes or publishes data, or an empty text."""
        return next((name for name in self.selected if name in (*DATA, *PUBLISHING)), "")

    @property
    def publishes(self) -> bool:
        """Whether a stage of the run publishes: one of its own, or one of a later job."""
        return bool(self._publishing)

    def check_backends(self) -> None:
        """Check the catalog and the SQL engine of all publishing stages.

        Raises:
            ConfigError: a setting does not fit the catalog or the engine.
            CatalogError: the catalog cannot be reached, or denies access.
            ExecutorError: the same for the SQL engine.
        """
        self._check(self._look_at_backends)

    def check_tables(self, manifest: Manifest) -> None:
        """Check that every table of a publishing stage can be published.

        Raises:
            ForeignTableError: one belongs to another program or dataset, or is of another kind.
            CatalogError: one is an Iceberg table that cannot take the files of the run.
        """
        services, stages = self.services, self._publishing
        names = [name for stage in stages for name in table_names(manifest, services.settings, stage)]
        if names:
            self._check(lambda: check_publishable(manifest, services, stages, names))

    @property
    def _publishing(self) -> list[str]:
        return [name for name in (*self.selected, *self._later) if name in PUBLISHING]

    @property
    def _later(self) -> tuple[str, ...]:
        if self.named is not None:
            return tuple(name for name in self.named if name not in self.selected)
        stages = self.services.settings.stages
        if not any(name in DATA for name in self.selected):
            return ()
        last = max(stages.index(name) for name in self.selected if name in stages)
        return stages[last + 1 :]

    def _look_at_backends(self) -> None:
        publishing, services = self._publishing, self.services
        if publishing:
            services.catalog().check()
        if "ctas" in publishing and services.settings.ctas.method != PROMOTE:
            services.executor().check()

    def _check(self, look: Callable[[], None]) -> None:
        own = any(name in PUBLISHING for name in self.selected)
        try:
            look()
        except MissingDependencyError as error:
            if own or self.named is not None:
                raise
            # The job that publishes may have another environment.
            text = f"{', '.join(self._later)}: what these stages need was not checked: {error}"
            self.services.report(Progress(self.services.dataset, "", "warning", message=text))
        except BucketwheelError as error:
            if not own:
                error.add_note(
                    f"no data was written. Checked because another job will run {', '.join(self._publishing)}; "
                    "--later-stages none turns the check off"
                )
            raise
