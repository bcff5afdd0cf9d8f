"""The MLflow store: `pose.tracking.mlflow` writes it, `pose.experiments.provenance` reads it."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

# MLflow reads them, in part as it is imported: no telemetry, none of its own lines and traces among ours, and
# an attempt at a server that never answers takes 20 s, not minutes. The one retry comes at once: it is for
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

from pose.io.file_lock import FileLock

# Where MLflow was imported before.
logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"])

LOCK_SECONDS = 100.0  # that one process waits for another that makes the store
# One for all tasks: with and without adversary is what there is to compare. The tag `task` tells them apart.
EXPERIMENT = "pose"
# MLflow's pages are those for language models, unless this tag (3.5 to 3.8, at least) or a page's address
# (3.17, see `run_page`) says otherwise.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


def store_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else `mlflow.db`; a relative SQLite path starts in the project's root.

    `dvc exp run --temp` and `--queue` run in a folder that is deleted afterwards; there DVC_ROOT names the
    root.
    """
    root = Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path = _sqlite_path(uri)
    return f"sqlite:///{root / path}" if path else uri


def store_name() -> str:
    """`store_uri` for messages, without user and password."""
    return _without_password(store_uri())


def is_file() -> bool:
    """Whether the store is a SQLite file, which this process or another makes if it is not there."""
    return _sqlite_path(store_uri()) is not None


@contextmanager
def writable() -> Iterator[MlflowClient]:
    """The store, a SQLite file made and found writable; one process of this machine enters at a time.

    MLflow fails where several processes make the tables of a new file at once, and tries for 100 seconds to
    open what is no such file. TimeoutError if another process does not leave.
    """
    set_tracking_uri(store_uri())
    path = _sqlite_path(store_uri())
    if not path:
        yield MlflowClient()
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", seconds=LOCK_SECONDS):
        with closing(sqlite3.connect(path, timeout=20)) as database:
            database.execute("BEGIN IMMEDIATE")
        yield MlflowClient()


def experiment_id(client: MlflowClient) -> str:
    """The id of our experiment, which is made or brought back if need be."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        path = _sqlite_path(store_uri())
        # Absolute: MLflow's default depends on the folder of the first run. A server has a place of its own.
        location = Path(path).with_name("mlruns").as_uri() if path else None
        try:
            return client.create_experiment(EXPERIMENT, artifact_location=location, tags=EXPERIMENT_TAGS)
        except MlflowException:  # somebody else has made it, on a server
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                raise
    if found.lifecycle_stage == LifecycleStage.DELETED:
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def active_run(client: MlflowClient, run_id: str) -> Run | None:
    """A run, unless there is none with that id or it was deleted."""
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return run if run.info.lifecycle_stage == LifecycleStage.ACTIVE else None


class Unreadable(Exception):
    """Why nothing can be read from the store."""


def runs_that_wrote(weights: str) -> list[Run]:
    """Runs whose last or best weights have that hash, the newest first; nothing is written.

    Raises Unreadable.
    """
    found: dict[str, Run] = {}
    try:
        client = MlflowClient(_read_only(store_uri()))
        if experiment := client.get_experiment_by_name(EXPERIMENT):
            for which in ("last", "best"):
                condition = f"tags.weights_{which} = '{weights}'"
                runs = client.search_runs([experiment.experiment_id], condition)
                found |= {run.info.run_id: run for run in runs}
    except Unreadable:
        raise
    except Exception as error:  # of MLflow, its database or the network
        raise Unreadable(f"{store_name()} cannot be read ({reason_of(error)})") from None
    return sorted(found.values(), key=lambda run: -run.info.start_time)


def _read_only(uri: str) -> str:
    """The address at which MLflow makes and changes nothing; Unreadable if there is no store."""
    if uri.startswith("sqlite:"):
        url = make_url(uri)
        if not url.database or not os.path.isfile(url.database):
            raise Unreadable(f"there is no store {store_name()}")
        file = f"file:{quote(url.database)}"
        # MLflow would try for more than a minute to open what is no store.
        with closing(sqlite3.connect(f"{file}?mode=ro", uri=True)) as database:
            database.execute("SELECT 1 FROM experiments")
        # With the driver's name, since MLflow makes the folder of a plain `sqlite:///`.
        query = {**url.query, "mode": "ro", "uri": "true"}
        return url.set(drivername="sqlite+pysqlite", database=file, query=query).render_as_string()
    folder = uri.removeprefix("file://")
    if "://" not in folder and not os.path.isdir(folder):
        raise Unreadable(f"there is no store {store_name()}")
    return uri


def reason_of(error: Exception) -> str:
    """What went wrong with a store, in a line: the last of MLflow's chain of reasons, no SQL, no password."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return _without_password(line.rpartition("(Caused by ")[2].rstrip(")"))[:200]


def _without_password(text: str) -> str:
    return re.sub(r"(?<=://)[^/@\s]*@", "", text)


def _sqlite_path(uri: str) -> str | None:
    return uri.removeprefix("sqlite:///") if uri.startswith("sqlite:///") else None
