"""The comparison of frameworks: worker processes, turns, arithmetic, the ceiling's operations, and debugging."""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import tfcnn.networks.layers
import keras
import numpy as np
import psutil
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from tests.forked import Forked
from tfcnn import cli, files, networks
from tfcnn.benchmarks import ceiling, frameworks, frameworks_report, tensorflow_worker
from tfcnn.benchmarks.worker_process import WorkerFailed, WorkerProcess
from tfcnn.description.analysis import describe
from tfcnn.experiments import frameworks as experiment
from tfcnn.experiments.frameworks import RECIPES, TARGETS
from tfcnn.recipe import UsageError
from tfcnn.training.steps import Steps
from tfcnn.training.trainer import prepare

COUNTING, FAILING = "tests.worker_process_work:counting", "tests.worker_process_work:failing"
LIMIT = 600.0  # seconds; no test waits as long, but for a process that hangs


def test_a_worker_process_works_when_told_and_is_paused_in_between() -> None:
    with WorkerProcess(COUNTING, {}, LIMIT) as worker:
        process = worker._process
        first = worker.answer()
        assert first["value"] == 1 and first["import_seconds"] > 0 and first["first_seconds"] > 0
        for times, total, seconds in ((3, 4, 3 / 64), (5, 9, 1.25 * 5 / 64)):
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            assert psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
            answer = worker.run(times)
            assert answer["value"] == total and answer["seconds"] == pytest.approx(seconds)
            assert answer["peak_bytes"] > 2**20
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("how", "reason"), [
    ("raise", "MemoryError: out of memory"), ("kill", "the process was ended by SIGKILL"),
    ("exit", "the process ended with status 1: torn apart"), ("wait", "no answer within 0.1 s"),
    ("diverge", "ArithmeticError: the result is nan")])
@pytest.mark.parametrize("at", [0, 1], ids=["first", "later"])
def test_a_failing_worker_process_says_why_and_leaves_no_process(how: str, reason: str, at: int) -> None:
    children = _children()
    with WorkerProcess(FAILING, {"at": at, "how": how}, LIMIT) as worker:
        if at:
            assert worker.answer()["value"] == 0
            worker.start(1)
        if how == "wait":  # for ever, so any limit will do
            worker.limit = 0.1
        with pytest.raises(WorkerFailed, match=f"^{reason}$"):
            worker.answer()
    assert _children() == children


def _children() -> set[int]:
    return {process.pid for process in psutil.Process().children()}


def test_peak_memory_is_that_of_the_worker_process_not_of_its_parent() -> None:
    program = ("from tfcnn.benchmarks.worker_process import WorkerProcess\n"
               "large = bytearray(2**29)\n"
               f"with WorkerProcess('{COUNTING}', {{}}, {LIMIT}) as worker: print(worker.answer()['peak_bytes'])")
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert 2**20 < int(done.stdout) < 2**29


def test_a_paused_worker_process_dies_with_its_parent() -> None:
    program = ("import signal\nfrom tfcnn.benchmarks.worker_process import WorkerProcess\n"
               f"worker = WorkerProcess('{COUNTING}', {{}}, {LIMIT})\n"
               "worker.answer()\nprint(worker._process.pid, flush=True)\nsignal.pause()")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        worker = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    try:
        ended, _, _ = select.select([worker], [], [], LIMIT)
    finally:
        os.close(worker)
    assert ended


def test_rounds_are_in_turn_and_what_fails_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"

    def work(name: str, speed: float) -> frameworks.Mode:
        return frameworks.Mode(f"Mode {name}", lambda network, recipe: (COUNTING, {
            "log": str(log), "name": name, "seconds": 1 / 64 / speed}))

    def failing(at: int, how: str) -> frameworks.Mode:
        return frameworks.Mode(how, lambda network, recipe: (FAILING, {"at": at, "how": how}))

    modes = {"eager": failing(0, "exit"), "graph": work("graph", 2.0), "pytorch": work("pytorch", 0.5),
             "xla": failing(16, "raise"), "pytorch_compiled": work("pytorch_compiled", 1.0),
             "ceiling": work("ceiling", 4.0)}
    monkeypatch.setattr(frameworks, "MODES", modes)
    monkeypatch.setattr(frameworks, "pytorch_version", lambda: "1.2.3")
    recipes = {"mlp": RECIPES["mlp"].replace(dataset="sample", batch_size=100)}
    frameworks.measure(recipes, list(modes), ["float32"], 3, 1 / 8, LIMIT, TARGETS, tmp_path / "there")

    alive = ["graph", "pytorch", "pytorch_compiled", "ceiling"]
    result = json.loads((tmp_path / "there" / "result.json").read_text())
    found = result["networks"]["mlp"]["float32"]
    rows = found["arms"]
    assert list(rows) == list(modes) and result["complete"] and result["versions"]["torch"] == "1.2.3"
    assert rows["eager"] == {"failed": "the process ended with status 1: torn apart"}
    assert rows["xla"] == {"failed": "MemoryError: out of memory"}
    for name in alive:
        row = rows[name]
        assert row["rounds"] == [0, 1, 2] and len(row["images_per_second"]) == 3 and row["peak_bytes"] > 2**20
        assert row["smallest"] == min(row["images_per_second"]) <= row["median"] <= row["largest"]
        speed = 100 * 64 * {"graph": 2, "pytorch": 0.5, "pytorch_compiled": 1, "ceiling": 4}[name]
        assert row["largest"] == pytest.approx(speed) and row["smallest"] == pytest.approx(speed / 1.25)
    best = _check_ratios(found, alive)
    assert found["asked_over_pytorch"] == 1.25 and found["asked_share_of_ceiling"] is None

    # A turn is an untimed step and the timed ones.
    turns = [line.split() for line in log.read_text().splitlines()][-24:]
    order = [name for name, _ in turns[::2]]
    assert [rows[name]["steps"] > 1 for name in alive] == [True] * 4
    assert sorted(order[:4]) == sorted(order[4:8]) == sorted(order[8:]) == sorted(alive) and order[:4] != order[4:8]
    assert turns == [[name, times] for name in order for times in ("1", str(rows[name]["steps"]))]

    text = (tmp_path / "there" / "README.md").read_text()
    printed = capsys.readouterr().out
    assert text in printed and "mlp, float32, raise: failed, MemoryError: out of memory" in printed
    assert f"| mlp | float32 | {rows['graph']['median']:,.0f} | {rows[best]['median']:,.0f} |" in text
    assert f" | {found['over_pytorch']:.2f} | 1.25 | {found['share_of_ceiling']:.2f} |  |" in text
    assert "| raise | failed: MemoryError: out of memory |" in text and "not complete" not in text
    assert "{" not in text


def _check_ratios(found: dict[str, Any], alive: list[str]) -> str:
    """Checks the medians of the ratios within rounds, and returns PyTorch's best mode."""
    rows = found["arms"]
    speeds = {name: np.array(rows[name]["images_per_second"]) for name in alive}
    best = max(("pytorch", "pytorch_compiled"), key=lambda name: np.median(speeds[name] / speeds["graph"]))
    assert found["best_pytorch"] == best and found["over_pytorch"] == np.median(speeds["graph"] / speeds[best])
    assert found["share_of_ceiling"] == np.median(speeds["graph"] / speeds["ceiling"])
    assert rows["pytorch"]["share_of_ceiling"] == np.median(speeds["pytorch"] / speeds["ceiling"])
    assert rows["pytorch"]["over_default"] == np.median(speeds["pytorch"] / speeds["graph"])
    return best


def test_without_memory_for_all_the_default_meets_each_mode_in_separate_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[int] = []

    def work(seconds: float) -> frameworks.Mode:
        return frameworks.Mode("Mode", lambda network, recipe: (COUNTING, {"seconds": seconds}))

    def has_room(comparison: Any) -> bool:
        alive.append(len(_children()))
        return False

    modes = {"pytorch": work(0.02), "graph": work(0.01), "xla": work(0.01), "pytorch_compiled": work(0.03)}
    monkeypatch.setattr(frameworks, "MODES", modes)
    monkeypatch.setattr(frameworks._Comparison, "has_room", has_room)
    before = len(_children())
    rows = frameworks._compare("mlp", RECIPES["mlp"], list(modes), 2, 0.0, LIMIT)
    assert {name: row["rounds"] for name, row in rows.items()} == {
        "pytorch": [0, 1], "graph": [0, 1, 2, 3, 4, 5], "xla": [2, 3], "pytorch_compiled": [4, 5]}
    assert alive == [before + 2] * 2 and len(_children()) == before
    judged = frameworks._summarize(rows)
    graph = rows["graph"]["images_per_second"]
    for name, its_graph in (("pytorch", graph[:2]), ("xla", graph[2:4]), ("pytorch_compiled", graph[4:])):
        assert rows[name]["over_default"] == np.median(np.divide(rows[name]["images_per_second"], its_graph))
        if name == judged["best_pytorch"]:
            assert judged["over_pytorch"] == np.median(np.divide(its_graph, rows[name]["images_per_second"]))
    assert judged["best_pytorch"] == max(("pytorch", "pytorch_compiled"), key=lambda name: rows[name]["over_default"])


def test_there_is_room_only_if_twice_the_peak_memory_is_available() -> None:
    comparison = frameworks._Comparison("mlp", RECIPES["mlp"], 1.0, LIMIT)
    assert comparison.has_room()
    comparison.rows["xla"] = {"failed": "for some reason"}
    comparison.rows["graph"] = {"peak_bytes": 2**20}
    assert comparison.has_room()
    comparison.rows["ceiling"] = {"peak_bytes": psutil.virtual_memory().total // 2 + 2**20}
    assert not comparison.has_room()


def test_without_pytorch_its_modes_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mode = frameworks.Mode("Mode", lambda network, recipe: (COUNTING, {}))
    monkeypatch.setattr(frameworks, "MODES", {"graph": mode, "pytorch": mode})
    monkeypatch.setattr(frameworks, "pytorch_version", lambda: None)
    written: list[dict[str, Any]] = []
    monkeypatch.setattr(files, "write", lambda path, content: (
        Path(path).write_bytes(content if isinstance(content, bytes) else content.encode()),
        written.append(json.loads(content)) if path.name == "result.json" else None))
    recipes = {name: RECIPES[name] for name in ("lenet5", "mlp")}
    frameworks.measure(recipes, ["graph", "pytorch"], ["bfloat16"], 1, 0.0, LIMIT, TARGETS, tmp_path)
    # Each network is written before the next one is measured.
    assert [list(result["networks"]) for result in written] == [["lenet5"], ["lenet5", "mlp"]]
    assert [result["complete"] for result in written] == [False, True]
    found = written[-1]["networks"]["mlp"]["bfloat16"]
    assert list(found["arms"]) == ["graph"] and found["best_pytorch"] is None and found["over_pytorch"] is None
    assert "pip install -e '.[pytorch]'" in (tmp_path / "README.md").read_text()


def test_an_interrupted_run_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    there = tmp_path / "there"
    begun: list[str] = []

    def begin(network: str, recipe: Any) -> tuple[str, dict]:
        begun.append(network)
        if begun == ["lenet5", "mlp"]:
            raise KeyboardInterrupt
        return COUNTING, {}

    monkeypatch.setattr(frameworks, "MODES", {"graph": frameworks.Mode("Mode", begin)})
    monkeypatch.setattr(frameworks, "pytorch_version", lambda: None)

    def run(*flags: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            cli.measure("frameworks", experiment.OPTIONS, experiment.measure, [
                "frameworks", "--networks=lenet5,mlp", "--precisions=float32", "--seconds=0.01", f"--workdir={there}",
                *flags])
        return end.value.code, capsys.readouterr().err

    def found() -> dict[str, Any]:
        return json.loads((there / "result.json").read_text())

    status, said = run()
    first = found()
    assert status == 128 + signal.SIGINT and said.endswith(f"--workdir={there} --nooverwrite\n")
    assert "\nresume: " in said and "-m tfcnn.experiments.frameworks --networks=lenet5,mlp" in said
    assert list(first["networks"]) == ["lenet5"] and not first["complete"] and first["sittings"] == 1

    for flag, name in (("--rounds=6", "rounds"), ("--networks=lenet5", "measured"), ("--batch_size=64", "batch_size")):
        status, said = run(flag)
        assert status == 2 and said == (f"error: {there} holds what was measured with other {name}: choose another "
                                        "--workdir, or give --overwrite\n")
    assert found() == first and begun == ["lenet5", "mlp"]

    status, _ = run()
    assert status == 0 and begun == ["lenet5", "mlp", "mlp"]
    assert found()["networks"]["lenet5"] == first["networks"]["lenet5"]
    assert list(found()["networks"]) == ["lenet5", "mlp"] and found()["complete"] and found()["sittings"] == 2
    assert "interrupted and resumed, 2 attempts in all" in (there / "README.md").read_text()

    status, said = run()
    assert status == 2 and "exists already" in said and begun == ["lenet5", "mlp", "mlp"]
    files.write(there / "result.json", json.dumps(first))
    begun.append("")
    status, _ = run("--overwrite")
    assert status == 0 and begun[4:] == ["lenet5", "mlp"] and found()["sittings"] == 1

    def interrupt(network: str, recipe: Any) -> tuple[str, dict]:
        raise KeyboardInterrupt

    # Nothing of what shall be replaced is left to go on with.
    monkeypatch.setattr(frameworks, "MODES", {"graph": frameworks.Mode("Mode", interrupt)})
    status, said = run("--overwrite")
    assert status == 128 + signal.SIGINT and "resume" not in said and "what has been measured" not in said
    assert not (there / "result.json").exists()


# A card that does not exist is as none.
HIDDEN = {"CUDA_VISIBLE_DEVICES": "99"}
SMALL = experiment.RECIPES["lenet5"].replace(batch_size=4).to_dict()


def _begin_without_gpu() -> None:
    """Begins the work of TensorFlow's worker processes, which must fail at once."""
    for begin in (functools.partial(tensorflow_worker.trainer, single=True), ceiling.repeater):
        with pytest.raises(UsageError, match="sees no GPU: pip install"):
            begin(SMALL)


def test_tensorflow_that_sees_no_gpu_does_not_compute_on_the_processor_instead(tmp_path: Path) -> None:
    done = Forked(_begin_without_gpu, cwd=tmp_path, env=os.environ | HIDDEN).completed()
    assert done.returncode == 0, done.stderr


def test_pytorch_that_sees_no_gpu_does_not_compute_on_the_processor_instead() -> None:
    if not frameworks.pytorch_version():
        pytest.skip("PyTorch is not installed")
    arguments = {"recipe": SMALL, "network": "lenet5", "compiled": False, "channels_last": False, "bfloat16": False,
                 "batch_size": 4, "threads": 1}
    with (WorkerProcess("tfcnn.benchmarks.pytorch_worker:trainer", arguments, 120, environment=HIDDEN) as worker,
          pytest.raises(WorkerFailed, match="sees no GPU: pip install")):
        worker.answer()


def test_the_experiment_writes_table_picture_and_result(run_command: Callable[..., subprocess.CompletedProcess],
                                                        tmp_path: Path) -> None:
    modes = ["graph_single", "ceiling"]
    if frameworks.pytorch_version():
        modes.append("pytorch")
    done = run_command("--networks=lenet5", f"--modes={','.join(modes)}", "--precisions=float32", "--batch_size=4",
                       "--rounds=1", "--seconds=0.01", "--workdir=there", experiment="frameworks")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "there" / "result.json").read_text())
    rows = result["networks"]["lenet5"]["float32"]["arms"]
    assert set(rows) == set(modes) and result["complete"] and result["batch_size"] == 4
    for name, row in rows.items():
        assert row["median"] > 0 and row["first_seconds"] > 0 and row["peak_bytes"] > 2**26, (name, row)
        assert name == "ceiling" or 0 < row["loss"] < 20
    text = (tmp_path / "there" / "README.md").read_text()
    assert text in done.stdout and "| lenet5 | float32 |" in text
    assert Image.open(tmp_path / "there" / "frameworks.png").size[0] == 800


@pytest.mark.parametrize("measured", [True, False])
def test_an_interruption_says_whether_there_is_a_result(measured: bool, tmp_path: Path,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    def action(values: Any, workdir: Path) -> None:
        if measured:
            (workdir / "result.json").write_text('{"experiment": "frameworks"}')
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        cli.measure("frameworks", {}, action, ["frameworks", f"--workdir={tmp_path / 'there'}"])
    assert end.value.code == 128 + signal.SIGINT
    assert ("what has been measured is in" in capsys.readouterr().err) == measured


@pytest.mark.parametrize("flag", ["--networks=lenet5,lenet6", "--modes=fast", "--precisions=float16", "--rounds=0",
                                  "--batch_size=0"])
def test_a_usage_error_comes_before_anything_is_measured(flag: str, tmp_path: Path) -> None:
    name, value = flag.removeprefix("--").split("=")
    values = {option_name: option.value for option_name, option in experiment.OPTIONS.items()}
    values[name] = type(values[name])(value)
    with pytest.raises(UsageError, match=flag):
        experiment.measure(values | {"overwrite": False}, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_on_a_gpu_the_first_card_is_measured_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {name: option.value for name, option in experiment.OPTIONS.items()} | {
        "overwrite": False, "device": "gpu", "networks": "lenet5", "precisions": "float32", "rounds": 1, "seconds": 0.0}
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="--device=gpu: nvidia-smi finds no GPU on this machine"):
        experiment.measure(values, tmp_path / "there")
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\n[ "$3" = "--id=3,5" ] && echo "NVIDIA H100 80GB HBM3, 580.95"\n')
    program.chmod(0o755)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    work = ("tests.worker_process_work:environment", {"name": "CUDA_VISIBLE_DEVICES"})
    monkeypatch.setattr(frameworks, "MODES", {name: frameworks.Mode(name, lambda network, recipe: work)
                                              for name in ("graph", "pytorch_cuda_graphs")})
    monkeypatch.setattr(frameworks, "pytorch_version", lambda: "1.2.3")
    experiment.measure(values, tmp_path / "there")
    result = json.loads((tmp_path / "there" / "result.json").read_text())
    rows = result["networks"]["lenet5"]["float32"]["arms"]
    assert {name: row["loss"] for name, row in rows.items()} == {"graph": 3.0, "pytorch_cuda_graphs": 3.0}
    assert result["machine"].endswith("; NVIDIA H100 80GB HBM3 (driver 580.95)") and result["device"] == "gpu"
    page = (tmp_path / "there" / "README.md").read_text()
    assert "Everything ran on the GPU; float32 is" in page
    assert "**TensorFlow, graph, many steps a call**" in page and "**TensorFlow, XLA**" not in page
    assert "(not measured)" not in page
    rows["graph"]["libraries"] = {"cuda": "12.5", "cudnn": "9.3.0"}
    rows["pytorch_cuda_graphs"]["libraries"] = {"cuda": "13.0", "cudnn": "9.10.1"}
    assert ("GPU: TensorFlow with CUDA 12.5 and cuDNN 9.3.0, PyTorch with CUDA 13.0 and cuDNN 9.10.1; float32 is"
            in frameworks_report.text(result, {name: name for name in rows}))


def test_a_constant_batch_trains_as_a_data_set_of_it_does() -> None:
    losses = []
    for constant in (False, True):
        setup = prepare(RECIPES["lenet5"].replace(dataset="sample", validation=0.95, batch_size=4))
        batch = next(iter(setup.pipeline.training(0)))
        batches = tensorflow_worker.Constant(batch) if constant else iter(
            tf.data.Dataset.from_tensors(batch).repeat())
        steps = Steps(setup.recipe, setup.strategy, setup.model, setup.optimizer)
        losses.append(np.concatenate([steps.run(batches, tf.constant(count))[:, 0] for count in (3, 2)]))
    assert np.ptp(losses[0]) > 0
    np.testing.assert_array_equal(*losses)


@pytest.mark.parametrize("network", RECIPES)
def test_the_ceiling_computes_all_products_of_the_network(network: str) -> None:
    """Three times the products that `describe` counts independently, but twice for the first layer."""
    recipe = RECIPES[network]
    with tf.Graph().as_default():
        model = networks.find(recipe.network).build(classes=10, **recipe.network_options())
        found = ceiling.products(model, 128)
        counted = [row for row in describe(model).rows if row.multiply_accumulates]
    products = {row.name: row.multiply_accumulates for row in counted}
    if network == "lenet5":  # computed as a convolution over all channels, not only the connected ones
        connections = sum(map(len, tfcnn.networks.lenet.C3_SEES))
        products["C3"] = products["C3"] // connections * 6 * 16
    fixed = products.pop("whitening", 0)  # its kernel has no gradient, but its bias has one
    total = 128 * (3 * sum(products.values()) - (0 if fixed else products[counted[0].name]))
    assert sum(product.multiply_accumulates for product in found) == total
    assert [product.input_gradient for product in found] == [bool(fixed)] + [True] * (len(found) - 1)


def test_each_group_of_a_convolution_is_one_product(policy: Callable[[str], None]) -> None:
    policy("mixed_bfloat16")
    images = keras.Input((8, 8, 4))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(images)
    x = tfcnn.networks.layers.GroupedConv2D(6, 3, groups=2)(x)
    x = keras.layers.Dense(5, dtype="float32")(keras.layers.Flatten()(x))
    found = [dataclasses.astuple(product)[1:] for product in ceiling.products(keras.Model(images, x), 7)]
    assert found == [
        ((7, 8, 8, 4), (3, 3, 4, 4), (7, 4, 4, 4), (2, 2), "SAME", "bfloat16", False),
        *[((7, 4, 4, 2), (3, 3, 2, 3), (7, 2, 2, 3), (1, 1), "VALID", "bfloat16", True)] * 2,
        ((7, 24), (24, 5), (7, 5), (1, 1), "VALID", "float32", True)]


def test_every_operation_runs_every_time(tmp_path: Path) -> None:
    """TensorFlow would remove operations without effect, and compute constant ones only once."""
    repeat = ceiling.repeater(RECIPES["lenet5"].replace(batch_size=2).to_dict())
    repeat(1)
    tf.profiler.experimental.start(str(tmp_path))
    repeat(5)
    tf.profiler.experimental.stop()
    space = xplane_pb2.XSpace.FromString(next(tmp_path.rglob("*.xplane.pb")).read_bytes())
    done = collections.Counter(plane.event_metadata[event.metadata_id].name.split(":_Mkl")[-1].removeprefix("Native")
                               for plane in space.planes for line in plane.lines for event in line.events)
    # Three convolutions, the first without the gradient of its input, and two dense layers.
    assert {name: done[name] for name in ("Conv2D", "Conv2DBackpropFilter", "Conv2DBackpropInput", "MatMul")} == {
        "Conv2D": 15, "Conv2DBackpropFilter": 15, "Conv2DBackpropInput": 10, "MatMul": 30}


@pytest.mark.parametrize("execution", ["eager", "graph"])
def test_a_breakpoint_sees_numbers_in_eager_mode_only(execution: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def look() -> None:
        frame: FrameType | None = sys._getframe(1)
        while frame and "inputs" not in frame.f_locals:
            frame = frame.f_back
        assert frame
        seen.append(frame.f_locals["inputs"])

    original = tfcnn.networks.layers.Dense.call

    def call(self: tfcnn.networks.layers.Dense, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        breakpoint()
        return original(self, inputs)

    setup = prepare(RECIPES["lenet5"].replace(dataset="sample", validation=0.95, batch_size=4, execution=execution))
    steps = Steps(setup.recipe, setup.strategy, setup.model, setup.optimizer)
    batches = iter(setup.training_batches(0))
    monkeypatch.setattr(sys, "breakpointhook", look)
    monkeypatch.setattr(tfcnn.networks.layers.Dense, "call", call)
    steps.run(batches, tf.constant(1))
    reached = len(seen)
    steps.run(batches, tf.constant(2))
    if execution == "eager":
        assert reached == 2 and len(seen) == 6  # in every step
        values = [inputs.numpy() for inputs in seen]
        assert [value.shape for value in values] == [(4, 120), (4, 84)] * 3
        assert all(np.isfinite(value).all() and np.ptp(value) > 0 for value in values)
        assert not np.array_equal(values[0], values[2])
    else:
        assert reached and len(seen) == reached  # only while the graph is built
        with pytest.raises((AttributeError, NotImplementedError)):
            seen[0].numpy()
