"""The MLflow store that runs are kept in.

Where it is, opened to write, opened to read. `pose.tracking.mlflow` writes, `pose.experiments.provenance`
reads.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

# Read by MLflow, in part as it is imported: no telemetry, none of its own lines and traces among ours, and an
# attempt at a server that never answers costs 20 s, not minutes. One retry, which comes at once, is for
# connections that an idle server has closed.
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
os.environ.update(_SETTINGS | os.environ)  # the user's own win

from mlflow import MlflowClient, set_tracking_uri
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url

logging.getLogger("mlflow").setLevel(
    os.environ["MLFLOW_LOGGING_LEVEL"]
)  # in case somebody imported it before us

# One for all tasks: with and without adversary is what there is to compare. The tag `task` tells them apart.
EXPERIMENT = "pose"


def store_uri() -> str:
    """Where runs are kept: `MLFLOW_TRACKING_URI`, else `mlflow.db` in the project's root; a relative SQLite path starts there too.

    `dvc exp run --temp` and `--queue` run in a folder that is deleted afterwards; DVC_ROOT names the real one
    there.
    """
    root = Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path = _sqlite_path(uri)
    return f"sqlite:///{root / path}" if path else uri


def store_name() -> str:
    """The store as it is named to people: `store_uri` without user and password."""
    return _without_password(store_uri())


@contextmanager
def writable() -> Iterator[MlflowClient]:
    """The store, of which a SQLite file can be written to; one process of this machine enters at a time.

    MLflow lets several make the tables of a new file at once, and they fail; what is no such file it tries to
    open for 100 seconds.
    """
    set_tracking_uri(store_uri())
    path = _sqlite_path(store_uri())
    if not path:
        yield MlflowClient()
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{path}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with closing(sqlite3.connect(path, timeout=20)) as database:
            database.execute("BEGIN IMMEDIATE")
        yield MlflowClient()


def experiment_id(client: MlflowClient) -> str:
    """That of our experiment, which is made where it is not there yet."""
    if found := client.get_experiment_by_name(EXPERIMENT):
        if found.lifecycle_stage == LifecycleStage.DELETED:
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    path = _sqlite_path(store_uri())
    # Absolute: MLflow's own default is relative to wherever the first run happens to be. A server keeps files
    # where it likes.
    location = Path(path).with_name("mlruns").as_uri() if path else None
    try:
        return client.create_experiment(EXPERIMENT, artifact_location=location)
    except MlflowException:
        if found := client.get_experiment_by_name(
            EXPERIMENT
        ):  # made in the meantime, on a server that others use too
            return str(found.experiment_id)
        raise


def active_run(client: MlflowClient, run_id: str) -> Run | None:
    """A run, unless there is none of that name or it was deleted."""
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return run if run.info.lifecycle_stage == LifecycleStage.ACTIVE else None


class Unreadable(Exception):
    """Why nothing can be read there."""


def runs_where(which: str) -> list[Run]:
    """Runs of this project that MLflow's filter lets through, the newest first.

    Nothing is made or changed. Raises Unreadable.
    """
    try:
        client = MlflowClient(_read_only(store_uri()))
        experiment = client.get_experiment_by_name(EXPERIMENT)
        return list(client.search_runs([experiment.experiment_id], which)) if experiment else []
    except Unreadable:
        raise
    except Exception as error:  # of MLflow, its database or the network
        raise Unreadable(f"{store_name()} cannot be read ({reason_of(error)})") from None


def runs_that_wrote(weights: str) -> list[Run]:
    """Runs whose last or best weights have that hash (`pose.io.files.file_hash`), the newest first.

    Raises Unreadable.
    """
    found = {
        run.info.run_id: run
        for which in ("last", "best")
        for run in runs_where(f"tags.weights_{which} = '{weights}'")
    }
    return sorted(found.values(), key=lambda run: -run.info.start_time)


def _read_only(uri: str) -> str:
    """The address by which MLflow makes nothing that is missing, and changes nothing that is there; Unreadable where there is none."""
    if uri.startswith("sqlite:"):
        url = make_url(uri)
        if not url.database or not os.path.isfile(url.database):
            raise Unreadable(f"there is no store {store_name()}")
        file = f"file:{quote(url.database)}"
        # What is no store MLflow would try to open for more than a minute.
        with closing(sqlite3.connect(f"{file}?mode=ro", uri=True)) as database:
            database.execute("SELECT 1 FROM experiments")
        # By the driver's name, since MLflow makes the folders of a plain `sqlite:///`.
        query = {**url.query, "mode": "ro", "uri": "true"}
        return url.set(drivername="sqlite+pysqlite", database=file, query=query).render_as_string()
    folder = uri.removeprefix("file://")
    if "://" not in folder and not os.path.isdir(folder):
        raise Unreadable(f"there is no store {store_name()}")
    return uri


def reason_of(error: Exception) -> str:
    """What went wrong with a store, in a line.

    Of MLflow's chains of reasons the last one, of a database's message not the statement.
    """
    reason = (
        (str(error).strip() or type(error).__name__).splitlines()[0].rpartition("(Caused by ")[2].rstrip(")")
    )
    return _without_password(reason)[:200]


def _without_password(text: str) -> str:
    return re.sub(r"(?<=://)[^/@\s]*@", "", text)


def _sqlite_path(uri: str) -> str | None:
    return uri.removeprefix("sqlite:///") if uri.startswith("sqlite:///") else None
