"""MLflow's own stores as a workspace needs them: artifacts where Azure has them, runs of jobs."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_magics.local import uris

if TYPE_CHECKING:
    from aml_magics.local.curves import Curves

_STATISTICS = {  # rows of the table, then rows that are alike in the first column, the first two...
    "sqlite_autoindex_metrics_1": "1000000 100000 10 5 1 1 1",
    "index_metrics_run_uuid": "1000000 1000",
    "index_metrics_run_uuid_key_step": "1000000 1000 100 1",
}
# The run of the job whose process asks, "" for other clients.
asking: ContextVar[str] = ContextVar("asking", default="")
_LOGGED_MODEL = re.compile(r"models:/(m-\w+)")


def make_empty(path: Path) -> None:
    """Make an MLflow database with tables and nothing in them, of the MLflow that is installed."""
    from mlflow.store.tracking.dbmodels.models import SqlExperiment
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    store = SqlAlchemyStore(f"sqlite:///{path}", "mlflow-artifacts:/")
    with store.ManagedSessionMaker(read_only=False) as session:
        session.query(SqlExperiment).delete()  # the default one, with this root for artifacts
    store.engine.dispose()
    _choose_index(path)


def _choose_index(path: Path) -> None:
    """Have a curve found by its run: by its metric, SQLite reads that metric of every run.

    SQLite chooses by statistics of the table, which it has none of; these are of many runs.
    """
    with closing(sqlite3.connect(path)) as database:
        database.execute("ANALYZE sqlite_schema")  # makes the table of statistics
        rows = [("metrics", index, numbers) for index, numbers in _STATISTICS.items()]
        database.executemany("INSERT INTO sqlite_stat1 VALUES (?, ?, ?)", rows)
        database.commit()


def of(url: str, account: str, curves: Curves) -> dict[str, Any]:
    """The tracking store and the model registry store of a workspace, by these names."""
    tracking = _tracking_store(url, account, curves)
    return {"tracking": tracking, "registry": _registry_store(url, tracking)}


def _tracking_store(url: str, account: str, curves: Curves) -> Any:
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException
    from mlflow.store.tracking.dbmodels.models import SqlRun
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.utils.time import get_current_time_millis

    root = f"mlflow-artifacts:/{account}/{uris.ARTIFACTS}"

    class Store(SqlAlchemyStore):  # type: ignore[misc]
        """Puts the artifacts of every run where Azure has them; writes a job's run in one step."""

        def create_run(self, *args: Any, **options: Any) -> Any:
            run = super().create_run(*args, **options).info.run_id
            with self.ManagedSessionMaker(read_only=False) as session:
                session.get(SqlRun, run).artifact_uri = f"{root}/ExperimentRun/dcid.{run}"
            return self.get_run(run)

        def _experiment(self, name: str) -> str:
            """The id of an experiment, which is made when it is new."""
            known = self.get_experiment_by_name(name)
            if known is None:
                try:
                    return str(self.create_experiment(name))
                except MlflowException:  # another job has just made it
                    known = self.get_experiment_by_name(name)
                    if known is None:
                        raise
            self._check_experiment_is_active(known)
            return str(known.experiment_id)

        def add_run(self, experiment: str, run: str, tags: dict[str, str]) -> str:
            """Make a job's run, if it is not there from a submit that was cut short."""
            id_ = self._experiment(experiment)
            with self.ManagedSessionMaker(read_only=False) as session:
                row = session.get(SqlRun, run)
                replaced = row and row.lifecycle_stage == "deleted"  # with the job of this name
                if replaced:
                    session.delete(row)
                    session.flush()
                if replaced or row is None:
                    session.add(_row(id_, run, tags, f"{root}/ExperimentRun/dcid.{run}"))
            if replaced:
                curves.reset()
            return id_

        def create_logged_model(
            self,
            experiment_id: str,
            name: str | None = None,
            source_run_id: str | None = None,
            *args: Any,
            **options: Any,
        ) -> Any:
            """Make a model; one that a job logs without opening its run is of that run."""
            run = "" if source_run_id else asking.get()
            source = source_run_id or run or None
            model = super().create_logged_model(experiment_id, name, source, *args, **options)
            if run:
                self.log_outputs(run, [LoggedModelOutput(model.model_id, 0)])
            return model

        def log_metric(self, run_id: str, metric: Any) -> None:
            super().log_metric(run_id, metric)
            curves.logged(1)

        def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
            super().log_batch(run_id, metrics, params, tags)
            curves.logged(len(metrics))

        def end_run(self, run: str, status: str) -> None:
            end = {"status": status, "end_time": get_current_time_millis()}
            with self.ManagedSessionMaker(read_only=False) as session:
                session.query(SqlRun).filter_by(run_uuid=run).update(end)

    return Store(url, f"{root}/experiments")


def _row(experiment_id: str, run: str, tags: dict[str, str], artifact_uri: str) -> Any:
    """A run as MLflow itself begins one."""
    from mlflow.store.tracking.dbmodels.models import SqlRun, SqlTag
    from mlflow.utils.time import get_current_time_millis

    return SqlRun(
        run_uuid=run,
        name=tags.get("mlflow.runName", run),
        experiment_id=experiment_id,
        user_id=tags.get("mlflow.user", ""),
        status="RUNNING",
        start_time=get_current_time_millis(),
        source_type="UNKNOWN",
        source_name="",
        source_version="",
        entry_point_name="",
        lifecycle_stage="active",
        artifact_uri=artifact_uri,
        tags=[SqlTag(key=key, value=value) for key, value in tags.items()],
    )


def _registry_store(url: str, tracking: Any) -> Any:
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    class Store(SqlAlchemyStore):  # type: ignore[misc]
        """Looks logged models up in its own workspace, where MLflow would ask a global client."""

        def create_model_version(
            self, name: str, source: str, run_id: str | None = None, *args: Any, **options: Any
        ) -> Any:
            logged = _LOGGED_MODEL.fullmatch(source)
            if logged or options.get("model_id"):
                model = tracking.get_logged_model(logged[1] if logged else options["model_id"])
                source = model.artifact_location if logged else source
                run_id = run_id or model.source_run_id
            return super().create_model_version(name, source, run_id, *args, **options)

    return Store(url)
