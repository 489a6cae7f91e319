"""Runs as tasks on a Ray cluster, or on a Ray started for the study."""

from __future__ import annotations

import os
import socket
from concurrent.futures import Future
from typing import Any

from dropkit.core.errors import InputError, MissingExtraError, phrase
from dropkit.study.checkpoint import Place
from dropkit.study.engines.choice import Running
from dropkit.study.worker import Outcome, Unit, execute

try:
    import ray
    from ray import exceptions as raised
except ModuleNotFoundError as error:
    raise MissingExtraError("ray", "ray") from error

_STORE = 128 * 2**20  # bytes of shared memory of a Ray started here: the experiment and the results are small
_PATIENCE = 20.0  # seconds for a cluster to accept a connection


class RayTasks:
    """An engine that hands every run to Ray at once; Ray decides when and where.

    A program that is connected to a Ray keeps its connection; otherwise the study connects, and leaves at its end. Ray itself
    tries nothing again: the runner does, as it does for processes.

    Args:
        payload: the experiment, packed.
        place: where progress and checkpoints go; both work on machines that share the folder with this one.
        running: address, cores a run, and the cores of a Ray that is started here.

    Raises:
        InputError: the cluster does not answer, or none of its machines has the cores for a run.
    """

    lost: tuple[type[BaseException], ...] = (
        raised.WorkerCrashedError, raised.NodeDiedError, raised.OutOfMemoryError, raised.ObjectLostError,
        raised.LocalRayletDiedError, raised.RaySystemError)

    def __init__(self, payload: bytes, place: Place, running: Running) -> None:
        self._connected = not ray.is_initialized()
        if self._connected:
            _connect(running)
        try:
            _check_room(running.cpus_per_run)
        except InputError:
            self.close()
            raise
        self.slots = 2**31  # Ray holds the queue
        self._task: Any = ray.remote(execute).options(
            num_cpus=running.cpus_per_run, max_retries=0, runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}})
        self._payload, self._place = ray.put(payload), place
        self._refs: list[Any] = []

    def submit(self, unit: Unit) -> Future[Outcome]:
        """Make the runs a task."""
        ref = self._task.remote(self._payload, self._place, unit)
        self._refs.append(ref)
        future: Future[Outcome] = ref.future()
        return future

    def close(self) -> None:
        """Cancel what has not finished, and leave the cluster if this engine joined it."""
        if self._connected:
            ray.shutdown()
            return
        for ref in ray.wait(self._refs, num_returns=len(self._refs), timeout=0)[1] if self._refs else []:
            ray.cancel(ref, force=True)


def _connect(running: Running) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told that a study runs
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "dropkit"}
    if running.address is None:
        options |= {"address": "local", "num_cpus": running.workers, "include_dashboard": False, "object_store_memory": _STORE}
    else:
        options["address"] = running.address
    try:
        _reach(running.address)
        ray.init(**options)
    except (OSError, ValueError) as error:
        raise InputError("the Ray cluster answers", got=phrase(f"{running.address}: {error}"),
                         fix="Give its address, or leave --address out to start Ray on this machine") from error


def _reach(address: str | None) -> None:
    """Raise OSError or ValueError if nothing listens at ``host:port``: Ray itself would ask for a quarter of an hour."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()


def _check_room(cpus: float) -> None:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    largest = max((node["Resources"].get("CPU", 0.0) for node in nodes if node["Alive"]), default=0.0)
    if cpus > largest:
        raise InputError("a run's cores are found on one machine of the cluster",
                         got=phrase(f"{cpus:g} cores a run, and {largest:g} on the largest machine"),
                         fix="Lower --cpus-per-run")
