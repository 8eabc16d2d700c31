"""MLflow: the server that MLFLOW_TRACKING_URI names, else an SQLite file in ``OUT/mlflow``."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mammoprep.core.errors import ConfigError
from mammotrain.trackers._base import Buffered, Point, Tracker, settings, title

NEEDS = ("mlflow", "mlflow")
URI, EXPERIMENT = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"
ENDS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
# Unless the user wants it otherwise: no reports to its makers, no chatter, and a server that is
# gone holds training up for a minute and not for many.
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
MOST_METRICS, MOST_PARAMS = 1000, 100  # of one call


class Run(Buffered):
    """One run of MLflow, by its client: nothing of this process is collected."""

    def __init__(self, out: Path, table: Mapping[str, Any]) -> None:
        """Go on with the run that the folder remembers, or begin one."""
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        super().__init__(out, "mlflow")
        self.failures = (MlflowException, OSError)
        self._client = MlflowClient(None if os.environ.get(URI) else _file(out))
        known = self._known()
        run = known or self._client.create_run(
            _experiment(self._client, out), run_name=title(table)
        )
        self.began(run.info.run_id, again=known is not None)
        if known is not None:
            self._client.update_run(run.info.run_id, status="RUNNING")
        self._tell_settings(settings(table), run.data.params)

    def send(self, points: list[Point]) -> None:
        """Send metrics, in as few calls as MLflow takes."""
        from mlflow.entities import Metric

        found = [
            Metric(f"{point.kind}/{name}", value, int(1000 * point.seconds), point.step)
            for point in points
            for name, value in point.values.items()
        ]
        for start in range(0, len(found), MOST_METRICS):
            self._client.log_batch(self.run, metrics=found[start : start + MOST_METRICS])

    def close(self, status: str) -> None:
        """Send what is left, and how it ended."""
        self.flush()
        self._client.set_terminated(self.run, ENDS[status])

    def _known(self) -> Any:
        """Return the remembered run, or None when there is none, or it was deleted."""
        from mlflow.exceptions import MlflowException

        if self.run is None:
            return None
        try:
            run = self._client.get_run(self.run)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return run if run.info.lifecycle_stage == "active" else None

    def _tell_settings(self, found: Mapping[str, Any], known: Mapping[str, str]) -> None:
        # MLflow holds what it was told first, and refuses another value
        from mlflow.entities import Param

        new = [Param(n, str(v)) for n, v in found.items() if n not in known and str(v)]
        for start in range(0, len(new), MOST_PARAMS):
            self._client.log_batch(self.run, params=new[start : start + MOST_PARAMS])


def open(out: Path, table: dict[str, Any]) -> Tracker:
    """Return the tracker of a run's folder.

    Raises:
        ConfigError: MLflow refuses, or its server cannot be reached.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow.exceptions import MlflowException

    try:
        return Run(out, table)
    except MlflowException as error:
        where = f"the server of {URI}" if os.environ.get(URI) else str(out / "mlflow")
        raise ConfigError(
            f"train.track: MLflow cannot use {where} ({error.error_code}). Mend it, or leave "
            "mlflow out of train.track."
        ) from None


def _file(out: Path) -> str:
    folder = (out / "mlflow").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"


def _experiment(client: Any, out: Path) -> str:
    """Return the experiment's id; ``mammotrain`` unless MLFLOW_EXPERIMENT_NAME says otherwise."""
    name = os.environ.get(EXPERIMENT, "mammotrain")
    if (known := client.get_experiment_by_name(name)) is not None:
        return str(known.experiment_id)
    local = None if os.environ.get(URI) else (out / "mlflow" / "artifacts").absolute().as_uri()
    return str(client.create_experiment(name, artifact_location=local))
