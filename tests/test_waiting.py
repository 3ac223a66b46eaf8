"""Signals while other machines do not come, the limit of that wait, and signals that a process ignores."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import environment
from tests.forked import Forked, run_module
from tfcnn.recipe import UsageError
from tfcnn.training import loop, machines, trainer, waiting

INTERRUPTED = {signal.SIGINT: 130, signal.SIGTERM: 143}


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def absent() -> Iterator[str]:
    """The address of a machine that does not listen."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{silent.getsockname()[1]}"


def _start(action: Callable[..., None], folder: Path, addresses: list[str], index: int, *arguments: str) -> Forked:
    """Starts a worker in a folder, whose parent is for its temporary files too."""
    folder.mkdir(exist_ok=True)
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    return Forked(action, *arguments, cwd=folder, env=environment(folder) | {
        "TF_CONFIG": json.dumps(config), "TMPDIR": str(folder.parent)})


def _train(*flags: str) -> None:
    waiting.REPORT_SECONDS = 0.2
    run_module("tfcnn.experiments.lenet5", "--dataset=sample", "--batch_size=24", "--workdir=run", *flags)


def _join_and_hang(*flags: str) -> None:
    """A worker that joins the others and then never gets to the first barrier."""
    def hang(*arguments: Any) -> None:
        print("joined", file=sys.stderr, flush=True)
        signal.pause()

    machines.check_equal = hang
    _train(*flags)


@pytest.mark.parametrize("index, number", [(0, signal.SIGINT), (1, signal.SIGTERM)])
def test_wait_for_a_machine_that_never_comes_names_it_and_can_be_interrupted(
        index: int, number: signal.Signals, absent: str, tmp_path: Path) -> None:
    addresses = [_free_address()]
    addresses.insert(1 - index, absent)
    process = _start(_train, tmp_path / "empty", addresses, index)
    process.wait_for_error_text(f"still waiting for {absent} (Connection refused)\n")
    process.send_signal(number)
    done = process.completed()
    assert done.returncode == INTERRUPTED[number], done.stderr
    assert "Traceback" not in done.stderr and "interrupted before there was anything to save" in done.stderr
    assert not done.stdout and not list((tmp_path / "empty").iterdir())


def test_limited_wait_ends_with_status_4_and_one_line_that_names_the_missing(absent: str, tmp_path: Path) -> None:
    unknown = "no-such-machine.invalid:2222"
    done = _start(_train, tmp_path / "empty", [_free_address(), absent, unknown], 0, "--wait=0.01").completed()
    assert done.returncode == 4, done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"error: waited 0.01 minutes for {absent} (Connection refused), {unknown} (")
    assert "Traceback" not in done.stderr and not list((tmp_path / "empty").iterdir())


def test_barrier_before_the_first_step_can_be_interrupted(tmp_path: Path) -> None:
    addresses = [_free_address(), _free_address()]
    process, other = (_start(action, tmp_path / "empty", addresses, index)
                      for index, action in enumerate((_train, _join_and_hang)))
    other.wait_for_error_text("joined\n")
    # Not said while the worker joins, unless the other one listens already; the signal is handled in both waits.
    process.wait_for_error_text("still waiting for the other machines, all of which answer\n")
    process.send_signal(signal.SIGTERM)
    done = process.completed()
    other.send_signal(signal.SIGKILL)
    assert done.returncode == 143, done.stderr
    assert "Traceback" not in done.stderr and not list((tmp_path / "empty").iterdir())


def test_own_port_in_use_is_a_usage_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        own = f"127.0.0.1:{server.getsockname()[1]}"
        done = _start(_train, tmp_path / "empty", ["other:1", own], 1).completed()
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: port ") and "Address already in use" in done.stderr


@pytest.mark.parametrize("minutes", [-1.0, math.nan, math.inf])
def test_time_that_is_no_number_of_minutes_is_a_usage_error(minutes: float) -> None:
    with pytest.raises(UsageError, match="--wait"):
        machines.cluster(wait=minutes)


def test_missing_tells_which_addresses_do_not_answer(absent: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        present = f"127.0.0.1:{server.getsockname()[1]}"
        assert waiting.missing([present, absent]) == [f"{absent} (Connection refused)"]
        assert waiting.missing([present]) == waiting.missing([]) == []


# Signals that a process may be started to ignore: by a script that starts it in the background, by a system, by nohup.
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STAGES = [(trainer, "prepare"), (loop.Loop, "_trace"), (loop.Loop, "_train_call"), (loop.Loop, "_evaluate"),
          (loop.Loop, "test"), (trainer, "save_model")]


def _after_signals(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that first sends this process all the signals."""
    def send_and_call(*arguments: Any, **options: Any) -> Any:
        for number in IGNORED:
            os.kill(os.getpid(), number)
        print(f"signals before {function.__name__}", file=sys.stderr)
        return function(*arguments, **options)

    return send_and_call


def _train_amid_signals(*flags: str) -> None:
    for owner, name in STAGES:
        setattr(owner, name, _after_signals(getattr(owner, name)))
    run_module("tfcnn.experiments.lenet5", *flags)


def test_signals_that_the_process_was_started_to_ignore_stay_ignored(class_folders: Path, tmp_path: Path) -> None:
    done = Forked(_train_amid_signals, "--dataset=folder", f"--data_dir={class_folders}", "--epochs=1",
                  "--batch_size=24", "--validation=0.2", "--workdir=run", cwd=tmp_path, env=environment(tmp_path),
                  ignored=IGNORED).completed()
    assert done.returncode == 0, done.stderr
    assert {f"signals before {name}" for _, name in STAGES} <= set(done.stderr.splitlines())
    assert (tmp_path / "run" / "result.json").exists()
