"""The network as a graph of its layers, for TensorBoard's Graphs page.

TensorBoard can draw a saved Keras model itself, as its "conceptual graph", but not at first: the page opens on a graph
of operations and reports an error if a tag has none. So the layers are written as such a graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf


def network_graph(model: keras.Model) -> tf.compat.v1.GraphDef:
    """Returns a graph with a node for each layer.

    Args:
      model: a functional model.

    Returns:
      Nodes that are named like the layers; a node's operation is the layer's class, its inputs are the layers before
      it, and its attribute `_output_shapes` is what TensorBoard writes beside the edges.
    """
    graph = tf.compat.v1.GraphDef()
    for layer in model.get_config()["layers"]:
        node = graph.node.add(name=layer["name"], op=layer["class_name"])
        node.input.extend(_input_layers(layer["inbound_nodes"]))
        for output in tf.nest.flatten(model.get_layer(layer["name"]).output):
            node.attr["_output_shapes"].list.shape.add().CopyFrom(tf.TensorShape(output.shape).as_proto())
    return graph


def _input_layers(arguments: Any) -> Iterator[str]:
    """The names of the layers whose outputs are among a layer's saved arguments."""
    if isinstance(arguments, dict) and arguments.get("class_name") == "__keras_tensor__":
        yield arguments["config"]["keras_history"][0]
    elif isinstance(arguments, dict | list | tuple):
        for argument in arguments.values() if isinstance(arguments, dict) else arguments:
            yield from _input_layers(argument)
