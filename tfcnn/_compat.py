"""Every use of a private part of another library, one function or class for each.

Each entry says what it works around, in which versions that was seen, and what happens where the private part is gone:
a worse but right way, or one clear error, never an import that breaks the suite. `tests/test_compat.py` has a test for
each entry, which tells when the private part has changed or is no longer needed.
"""

from __future__ import annotations

import ctypes
import functools
import typing
import weakref
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if typing.TYPE_CHECKING:
    import keras
    import tensorflow as tf


# The instance keys in use in each graph, and the key of the group of all workers. tf.distribute numbers its groups from
# 1; instance keys of different groups never meet.
_keys_in_use: weakref.WeakKeyDictionary[Any, set[int]] = weakref.WeakKeyDictionary()
_GROUP_KEY = 2 ** 30


def gather_from_workers(x: tf.Tensor, workers: int, name: str) -> tf.Tensor:
    """Collects a small tensor from all workers of a `MultiWorkerMirroredStrategy` that have one CPU device each.

    Works around: no public function does this in one message to each of the other workers. `ReplicaContext.all_gather`
    first gathers the shapes, and `all_reduce` scatters, then gathers. Both take two messages, one after the other, and
    a message takes 0.3 ms of a core's time however short it is. ResNet-20 makes 38 exchanges a step, see
    docs/performance.md#several-processes.

    `tf.raw_ops.CollectiveGatherV2` is public, but the keys by which workers find each other are chosen here by hand,
    next to those of tf.distribute. They follow from the name alone: if one worker traces its function again and the
    others do not, the keys are still the same on all workers.

    Seen in: TensorFlow 2.21.0, which chooses its own keys at call time, by private functions.

    Without it: `context.all_gather(x[tf.newaxis], axis=0)`, in twice as many messages.

    Args:
      x: the tensor of this worker, of a known shape, the same on all workers.
      workers: the number of workers.
      name: names the exchange; the same on all workers. A name may occur several times in a graph, if it does so in the
        same order on all workers.

    Returns:
      `[workers, *x.shape]`, the same on all workers.
    """
    import tensorflow as tf

    rows = tf.raw_ops.CollectiveGatherV2(
        input=x[tf.newaxis], group_size=workers, group_key=_GROUP_KEY, ordering_token=[],
        instance_key=_instance_key(f"{name} {x.dtype.name} {x.shape}"))
    return tf.ensure_shape(rows, [workers, *x.shape])


def _instance_key(name: str) -> int:
    """A key that follows from the name, and from how often the name has occurred in the current graph."""
    import tensorflow as tf

    key = zlib.crc32(name.encode()) >> 2  # leaves room for the keys of repeated names
    if tf.executing_eagerly():  # one exchange after the other
        return key
    in_use = _keys_in_use.setdefault(tf.compat.v1.get_default_graph(), set())
    while key in in_use:
        key += 1
    in_use.add(key)
    return key


def read_records(source: Any, indices: Sequence[int]) -> list[bytes]:
    """Reads records of a random-access data source of tensorflow-datasets, several at a time.

    Works around: the public way, `source[index]`, reads one record at a time, and waits for each before the next; the
    method that PyTorch's loader calls reads from several files in parallel.
    Seen in: tensorflow-datasets 4.9.10 with array_record 0.8.6.
    Without it: the same records, one after the other; slow only where every read waits, such as on a network disk.

    Args:
      source: `builder.as_data_source(split).data_source`.
      indices: which records.

    Returns:
      The serialized examples, in the order of the indices.
    """
    read = getattr(source, "__getitems__", None)
    return [source[index] for index in indices] if read is None else list(read(indices))


@contextmanager
def untuned_device_datasets() -> Iterator[None]:
    """Turns autotuning off in the data sets per device that tf.distribute makes for iterators created in the context.

    Works around: autotuning has a thread that sleeps for up to a minute, and destroying an iterator may wait until it
    wakes up: after the last epoch, or when the process exits. `tf.data.Options` of the distributed data set do not
    reach the data sets per device, which take their batches from it.

    Seen in: TensorFlow 2.21.0 (`multi_device_iterator_ops._create_device_dataset`).

    Without it: the batches are the same, and a process may take up to a minute longer to exit.
    """
    try:
        from tensorflow.python.data.ops import multi_device_iterator_ops as module
        original = module._create_device_dataset
    except (ImportError, AttributeError):
        yield
        return

    def create(*arguments: Any, **options: Any) -> Any:
        dataset = original(*arguments, **options)
        untuned = type(dataset.options())()
        untuned.autotune.enabled = False
        return dataset.with_options(untuned)

    module._create_device_dataset = create
    try:
        yield
    finally:
        module._create_device_dataset = original


def apply_without_reduction(optimizer: Any) -> bool:
    """Makes a Keras optimizer's `apply` take gradients that are already summed over the replicas.

    Works around: `apply` sums the gradients over the replicas itself, after which neither their norms nor clipping can
    use the sum. Keras has no argument that turns this off. Calling `apply` in a cross-replica context would, but
    Keras's loss scaling (float16) refuses that context. Summing twice, of gradients divided by the number of replicas,
    would double the communication.

    Seen in: Keras 3.15.1 (`_all_reduce_sum_gradients`).

    Without it: `apply` is unchanged, which is right with one replica; with several the caller must refuse to train.

    Returns:
      Whether this version of Keras has the method.
    """
    if not hasattr(optimizer, "_all_reduce_sum_gradients"):
        return False
    optimizer._all_reduce_sum_gradients = list
    return True


def producer(tensor: keras.KerasTensor) -> Any:
    """The call of a layer that made a symbolic tensor.

    Works around: Keras tells only the tensors of a layer's first call (`layer.input`, `layer.output`), so a model that
    uses a layer twice cannot be followed; `model.get_config()` lists all calls, but needs a `get_config` in every layer
    and lists none for a sequential model. Seen in Keras 3.15.1. Without it: one error, and `python -m tfcnn.describe`
    cannot describe networks.

    Args:
      tensor: an input or output of a functional model, or a tensor between its layers.

    Returns:
      An object with `operation`, `input_tensors` and `output_tensors`.

    Raises:
      RuntimeError: this version of Keras has no record of the calls.
    """
    try:
        operation, index, _ = tensor._keras_history
        return operation._inbound_nodes[index]
    except AttributeError as error:
        raise RuntimeError("this version of Keras does not tell which layer made a tensor: networks cannot be described"
                           ) from error


def calls(model: keras.Model) -> Iterator[Any]:
    """The calls of layers that lead to a model's outputs, as `producer` returns them.

    Each comes after those that it takes its input from, and one branch comes after the other.
    """
    done = {id(producer(tensor)) for tensor in model.inputs}
    for output in model.outputs:
        waiting = [producer(output)]
        while waiting:
            call = waiting[-1]
            missing = [before for before in map(producer, call.input_tensors) if id(before) not in done]
            if missing:
                waiting.append(missing[0])
                continue
            waiting.pop()
            if id(call) not in done:
                done.add(id(call))
                yield call


@contextmanager
def keras_folder(folder: str | Path) -> Iterator[None]:
    """Within the context, Keras keeps downloaded weights in a folder of this one, `models`.

    Works around: keras.applications takes no folder, and Keras reads its variable KERAS_HOME once, when it is imported;
    the suite sets that to a folder that cannot be, so that the user's settings have no effect.
    Seen in: Keras 3.15.1 (`keras.src.backend.config._KERAS_DIR`).
    Without it: weights are kept in `/tmp/.keras`, and those that Keras has downloaded before are not found.
    """
    try:
        from keras.src.backend import config
        before = config._KERAS_DIR
    except (ImportError, AttributeError):
        yield
        return
    config._KERAS_DIR = str(folder)
    try:
        yield
    finally:
        config._KERAS_DIR = before


@contextmanager
def joining_in_background(register_seconds: float) -> Iterator[None]:
    """Within the context a process that joins its cluster, in another thread, leaves Python's interpreter free.

    Works around: TensorFlow holds Python's global lock while it waits for the other workers. No other thread runs, not
    even the main one: no signal is handled, nothing is printed, until the last worker is there. And after an hour
    TensorFlow gives up, which no public function changes.

    Seen in: TensorFlow 2.21.0 (`TFE_EnableCollectiveOps`, called through ctypes, which releases the lock, instead of
    through Python's binding, which does not; `cluster_register_timeout_in_ms`).

    Without it: the process joins as TensorFlow does it, cannot be interrupted meanwhile, and prints nothing.

    Args:
      register_seconds: how long TensorFlow itself waits at most.
    """
    try:
        import tensorflow as tf
        from tensorflow.python.eager import context
        binding, owner = context.pywrap_tfe, context.Context
        join, configure = binding.TFE_EnableCollectiveOps, owner.configure_coordination_service
        library = ctypes.CDLL(str(next(Path(tf.sysconfig.get_lib()).glob("libtensorflow_cc*"))))
        call = library.TFE_EnableCollectiveOps
    except (ImportError, AttributeError, StopIteration, OSError):
        yield
        return

    def join_without_lock(handle: Any, server: bytes) -> None:
        _call_with_status(library, call, _pointer(handle), ctypes.c_char_p(server), ctypes.c_size_t(len(server)))

    binding.TFE_EnableCollectiveOps = join_without_lock
    owner.configure_coordination_service = functools.partialmethod(
        configure, cluster_register_timeout_in_ms=int(1000 * register_seconds))
    try:
        yield
    finally:
        binding.TFE_EnableCollectiveOps, owner.configure_coordination_service = join, configure


def _pointer(capsule: Any) -> ctypes.c_void_p:
    """The pointer in a capsule, whatever the capsule's name."""
    name, pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.c_void_p(pointer(capsule, name(capsule)))


def _call_with_status(library: ctypes.CDLL, function: Any, *arguments: Any) -> None:
    """Calls a function of TensorFlow's C interface whose last argument is a status; raises the status's error."""
    import tensorflow as tf

    library.TF_NewStatus.restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    status = ctypes.c_void_p(library.TF_NewStatus())
    function.restype = None
    try:
        function(*arguments, status)
        code = library.TF_GetCode(status)
        message = library.TF_Message(status).decode(errors="replace")
    finally:
        library.TF_DeleteStatus(status)
    if code:
        raise tf.compat.v1.errors.exception_type_from_error_code(code)(None, None, message)
