"""What TensorBoard shows: event files that a resumed run cuts and continues, the contact sheet, graphs, sparsity."""

from __future__ import annotations

from pathlib import Path

import tfcnn.networks.layers  # noqa: F401 - before anything imports TensorFlow
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.config_pb2 import RunMetadata
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.plugins.hparams import metadata as hparams_metadata

from tfcnn import networks
from tfcnn.contact_sheet import class_captions, contact_sheet
from tfcnn.experiments.alexnet import RECIPE
from tfcnn.networks.options import OPTIONS
from tfcnn.recipe import Recipe, UsageError
from tfcnn.training.network_graph import network_graph
from tfcnn.training.sparsity import Sparsity
from tfcnn.training.tensorboard import Board, hyperparameters

NAMES = ("red", "green", "blue")
IMAGES = np.zeros((7, 32, 32, 3), np.uint8)
IMAGES[range(7), :, :, [0, 1, 2, 0, 1, 2, 0]] = np.arange(100, 170, 10)[:, None, None]
LABELS = np.arange(7) % 3


def _model() -> keras.Model:
    images = keras.Input((32, 32, 3))
    return keras.Model(images, keras.layers.Dense(3, name="logits")(keras.layers.Flatten()(images)))


def _events(folder: Path, part: str = "train") -> EventAccumulator:
    return EventAccumulator(str(folder / part), {"tensors": 0}).Reload()


def _curve(folder: Path, tag: str, part: str = "train") -> list[tuple[int, float]]:
    return [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in _events(folder, part).Tensors(tag)]


def test_resumed_run_shows_each_epoch_once(tmp_path: Path) -> None:
    board = Board(tmp_path, 0, {})
    board.scalars(0, {"epoch/loss": 3.0})
    board.scalars(0, {"epoch/loss": 4.0}, "validation")
    saved = board.flush()
    board.scalars(1, {"epoch/loss": 2.0})  # written, but not recorded in a checkpoint
    board.flush()
    for _ in range(2):  # nor is what the first attempt writes
        board = Board(tmp_path, 10, saved)
        board.scalars(1, {"epoch/loss": 1.5})
        again = board.flush()
    board = Board(tmp_path, 10, again)  # saved a second time at the same step
    board.scalars(2, {"epoch/loss": 1.0})
    last = board.flush()
    assert _curve(tmp_path, "epoch/loss") == [(0, 3.0), (1, 1.5), (2, 1.0)]
    assert _curve(tmp_path, "epoch/loss", "validation") == [(0, 4.0)]
    assert {name: (tmp_path / name).stat().st_size for name in last} == last
    assert set(last) == {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*tfevents*")}
    assert len(last) == 3


def test_flush_leaves_nothing_in_memory(tmp_path: Path) -> None:
    board = Board(tmp_path, 0, {})
    board.scalars(5, {"a": 0.25, "b": 0.5})
    name, = board.flush()
    version, *events = EventFileLoader(str(tmp_path / name)).Load()
    assert version.file_version == "brain.Event:2"
    assert [(event.step, value.tag) for event in events for value in event.summary.value] == [(5, "a"), (5, "b")]


def test_unwritable_folder_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("a file where the folder should be")
    board = Board(tmp_path, 0, {})
    board.scalars(0, {"loss": 1.0})
    with pytest.raises(UsageError, match="cannot write .*train is a file: put a folder in its place"):
        board.flush()


def test_run_begins_with_images_graphs_and_hyperparameters(tmp_path: Path) -> None:
    step = tf.function(lambda x: tf.sin(x) + 1).get_concrete_function(tf.TensorSpec([]))
    board, model = Board(tmp_path, 0, {}), _model()
    board.begin(RECIPE.replace(dropout=0.5), RECIPE, (IMAGES, LABELS), NAMES, model, step.graph)
    board.flush()
    events = _events(tmp_path)
    assert sorted(events.Tags()["tensors"]) == ["network", "training_images", "training_step"]

    width, height, png = events.Tensors("training_images")[0].tensor_proto.string_val
    sheet = tf.io.decode_png(png).numpy()
    assert sheet.shape == (int(height), int(width), 3)
    np.testing.assert_array_equal(sheet, contact_sheet(IMAGES, class_captions(LABELS, NAMES)))

    layers = {node.name for node in _graph(events, "network").node}
    assert layers == {layer.name for layer in model.layers}
    assert "Sin" in {node.op for node in _graph(events, "training_step").node}

    content = _events(tmp_path, "validation").SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    info = hparams_metadata.parse_session_start_info_plugin_data(content)
    assert set(info.hparams) == {"experiment", "dataset", "epochs", "batch_size", "learning_rate", "seed", "dropout"}
    assert info.hparams["dropout"].number_value == 0.5
    assert info.group_name == f"{tmp_path.parent.name}/{tmp_path.name}"


def _graph(events: EventAccumulator, tag: str) -> GraphDef:
    """As TensorBoard's Graphs page reads it."""
    assert events.SummaryMetadata(tag).plugin_data.plugin_name == "graph_run_metadata_graph"
    assert events.SummaryMetadata(tag).plugin_data.content == b"1"
    metadata = RunMetadata.FromString(events.Tensors(tag)[0].tensor_proto.string_val[0])
    graph, = (function.pre_optimization_graph for function in metadata.function_graphs)
    return graph


def test_graph_of_a_network_has_its_layers_edges_and_shapes() -> None:
    inputs = keras.Input((8, 8, 3), name="image")
    one = keras.layers.Conv2D(4, 3, padding="same", name="one")(inputs)
    two = keras.layers.Conv2D(4, 1, name="two")(inputs)
    both = keras.layers.Concatenate(name="both")([one, two])
    model = keras.Model(inputs, keras.layers.Add(name="sum")([both, both]))
    nodes = {node.name: node for node in network_graph(model).node}
    assert {name: list(node.input) for name, node in nodes.items()} == {
        "image": [], "one": ["image"], "two": ["image"], "both": ["one", "two"], "sum": ["both", "both"]}
    assert [nodes[name].op for name in ("image", "one", "both")] == ["InputLayer", "Conv2D", "Concatenate"]
    shape, = nodes["both"].attr["_output_shapes"].list.shape
    assert [dimension.size for dimension in shape.dim] == [-1, 8, 8, 8]


@pytest.mark.parametrize("name", networks.names())
def test_graph_of_every_network_is_connected(name: str) -> None:
    module = networks.find(name)
    with tf.Graph().as_default():  # variables get no memory in a graph, and no values
        model = module.build(classes=10)
    nodes = {node.name: set(node.input) for node in network_graph(model).node}
    assert set(nodes) == {layer.name for layer in model.layers}
    assert [name for name, before in nodes.items() if not before] == [model.inputs[0].name]
    assert all(before <= set(nodes) for before in nodes.values())


def test_uncompiled_run_has_no_graph_of_its_step(tmp_path: Path) -> None:
    board = Board(tmp_path, 0, {})
    board.begin(RECIPE, RECIPE, (IMAGES, LABELS), NAMES, _model(), None)
    board.flush()
    assert sorted(_events(tmp_path).Tags()["tensors"]) == ["network", "training_images"]


def test_hyperparameters_are_common_ones_and_what_differs_from_the_reference() -> None:
    common = {"experiment": "alexnet", "dataset": "cifar10", "epochs": 40, "batch_size": 64, "learning_rate": 0.01,
              "seed": 0}
    assert hyperparameters(RECIPE, RECIPE) == common
    assert hyperparameters(RECIPE.replace(seed=3, l2=0.1, activation="elu"), RECIPE) == common | {
        "seed": 3, "l2": 0.1, "activation": "elu"}
    # Without a reference: what is not a recipe's default, and the network's options.
    assert hyperparameters(Recipe("mine", "mlp", ema=0.5), None) == {
        "experiment": "mine", "dataset": "sample", "epochs": 20, "batch_size": 128, "learning_rate": 0.01, "seed": 0,
        "ema": 0.5}
    assert set(hyperparameters(RECIPE, None)) == set(common) | set(RECIPE.options) | {"schedule", "warmup_epochs", "l2"}


def test_histogram_has_numpys_counts(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    constant = keras.Variable(np.full(5, 2.0, np.float32), name="constant")
    variable, broken = keras.Variable(values, name="kernel"), keras.Variable([np.nan, np.inf, 1.0], name="broken")
    board = Board(tmp_path, 0, {})
    board.histograms(3, [variable, constant, broken])
    board.flush()
    events = _events(tmp_path)
    event, = events.Tensors("histogram/kernel")
    buckets = tf.make_ndarray(event.tensor_proto)
    assert event.step == 3 and buckets.shape == (30, 3)
    for left, right, count in buckets:
        last = right == buckets[-1, 1]  # includes its right edge
        assert count == ((values >= left) & ((values <= right) if last else (values < right))).sum()
    assert buckets[:, 2].sum() == values.size
    for name, size in (("constant", 5), ("broken", 1)):
        assert tf.make_ndarray(events.Tensors(f"histogram/{name}")[0].tensor_proto)[:, 2].sum() == size


def test_contact_sheet_shows_every_image_with_its_class() -> None:
    sheet = contact_sheet(IMAGES, class_captions(LABELS, NAMES))
    # Cells of 104x123 pixels after a margin of 8: an image of 3 * 32 pixels, 19 for the text below it, a margin of 8.
    assert sheet.dtype == np.uint8 and sheet.shape == (8 + 2 * 123, 8 + 5 * 104, 3)
    cells = [sheet[8 + 123 * row:8 + 123 * (row + 1), 8 + 104 * column:8 + 104 * (column + 1)]
             for row in range(2) for column in range(5)]
    captions = [cell[96:115] for cell in cells]
    for image, cell, caption in zip(IMAGES, cells, captions):
        np.testing.assert_array_equal(cell[:96, :96], image.repeat(3, 0).repeat(3, 1))
        assert caption.min() < 100
    assert all((cell == 255).all() for cell in cells[7:])
    np.testing.assert_array_equal(captions[0], captions[3])  # of the same class
    assert (captions[0] != captions[1]).any()


@pytest.mark.parametrize("shape, size", [
    ((28, 28, 1), (112, 112)), ((32, 32, 3), (96, 96)), ((227, 227, 3), (112, 112)), ((100, 200, 3), (56, 112))],
    ids=str)
def test_contact_sheet_takes_images_of_any_size(shape: tuple[int, int, int], size: tuple[int, int]) -> None:
    sheet = contact_sheet(np.full((1, *shape), 77, np.uint8), [["a"]])
    assert sheet.shape == (size[0] + 35, size[1] + 16, 3)
    assert (sheet[8:8 + size[0], 8:8 + size[1]] == 77).all()


def test_contact_sheet_shortens_long_names() -> None:
    sheet = contact_sheet(IMAGES[:2], [["x" * 200], ["y"]])
    caption = sheet[104:123]
    assert caption[:, 90:104].min() < 100 and (caption[:, 104:112] == 255).all()


def test_contact_sheet_names_both_classes_of_a_mixed_image() -> None:
    sheet = contact_sheet(IMAGES[:2], class_captions(np.array([[0.75, 0.25, 0], [0, 1, 0]]), NAMES))
    second_lines = sheet[123:142, 8:112], sheet[123:142, 112:216]
    assert second_lines[0].min() < 100 and (second_lines[1] == 255).all()


def test_sparsity_is_the_share_of_zeros_that_numpy_counts() -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(50, name="dense")(inputs)
    hidden = keras.layers.Activation("relu", name="dense_activation")(hidden)
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(hidden))
    images = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    kernel, bias, *_ = model.get_weights()
    assert Sparsity(model, tf.constant(images)).shares() == {
        "dense": pytest.approx((images @ kernel + bias <= 0).mean(), abs=2e-3)}


@pytest.mark.parametrize("activation", OPTIONS["alexnet"]["activation"].choices)
def test_sparsity_works_with_every_activation(activation: str) -> None:
    recipe = RECIPE.replace(activation=activation)
    model = networks.find("alexnet").build(classes=10, image_size=32, **recipe.network_options())
    shares = Sparsity(model, tf.zeros([2, 32, 32, 3])).shares()
    measured = {"conv1", "conv2", "local3", "local4"} if activation not in ("prelu", "rrelu") else set()
    assert set(shares) == measured and all(0 <= share <= 1 for share in shares.values())


def test_sparsity_of_a_network_without_activations_is_empty() -> None:
    assert Sparsity(_model(), tf.zeros([2, 32, 32, 3])).shares() == {}
