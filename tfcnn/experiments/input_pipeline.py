"""How fast the input pipeline is beside the training that it feeds, and what augmentation costs.

Measured in one process and in turn, so that a machine's moods hit all alike: the pipeline alone, with and without
augmentation; and training on one constant batch, on the pipeline without augmentation, and on the whole pipeline.
Printed are the medians over the rounds, as images a second and as a multiple of training on the constant batch.

Command: python -m tfcnn.experiments.input_pipeline
Target: the pipeline at least 5 times as fast as training consumes; training at most 3% slower than on a constant batch.
Expected time: two minutes on two CPU cores.
"""

from __future__ import annotations

import dataclasses
import functools

from absl import flags

from tfcnn import benchmark, cli
from tfcnn.experiments.alexnet import RECIPE as ALEXNET
from tfcnn.recipe import Recipe

RECIPE = dataclasses.replace(ALEXNET, experiment="input_pipeline", dataset="sample")
ROUNDS = 7
STEPS = 20  # training steps a round
BATCHES = 500  # batches a round of the pipeline alone


def measure(recipe: Recipe, values: flags.FlagValues) -> int:
    """Measures, prints the table and returns the exit status."""
    import tensorflow as tf

    from tfcnn.data.pipeline import Pipeline
    from tfcnn.training.steps import Steps
    from tfcnn.training.trainer import prepare

    setup = prepare(recipe, values["data_dir"].value or None, values["devices"].value)
    steps = Steps(recipe, setup.strategy, setup.model, setup.optimizer)
    replicas = setup.strategy.num_replicas_in_sync
    plain = Pipeline(setup.dataset, recipe.replace(augment="none"), setup.model.input_shape[1:])
    constant = tf.data.Dataset.from_tensors(next(iter(plain.training(0, replicas)))).repeat()

    def alone(pipeline: Pipeline):
        batches = pipeline.training(0).take(BATCHES)
        run = functools.partial(batches.reduce, 0.0, lambda total, batch: total + batch[0][0, 0, 0, 0])
        return run, BATCHES * recipe.batch_size

    def training(pieces: tf.data.Dataset):
        batches = iter(setup.strategy.distribute_datasets_from_function(lambda context: pieces))
        return lambda: steps.run(batches, tf.constant(STEPS)).numpy(), STEPS * recipe.batch_size

    rates = benchmark.compare({
        "pipeline alone, with augmentation": alone(setup.pipeline),
        "pipeline alone, without augmentation": alone(plain),
        "training on one constant batch": training(constant),
        "training, without augmentation": training(plain.training(0, replicas)),
        "training, with augmentation": training(setup.pipeline.training(0, replicas)),
    }, ROUNDS)
    print(f"{recipe.network} {recipe.network_options()}, batch {recipe.batch_size}, {replicas} device(s)\n"
          + benchmark.table(rates, "training on one constant batch"))
    return 0


if __name__ == "__main__":
    cli.run(RECIPE, action=measure)
