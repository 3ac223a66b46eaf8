"""LeNet-5 reads handwritten digits: scaled tanh, trained sub-sampling, maps that see only some of the maps before.

Source: LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document recognition", Proceedings of
the IEEE; section numbers below refer to it.
Command: python -m tfcnn.experiments.lenet5
Target: 0.9905 on MNIST, the result of section III.B after 20 passes over all 60,000 images (--validation=0), and 0.9915
is the goal here, with --preset=fast as well; with distorted images 0.992 (section III.B), and 0.994 is the goal with
--preset=distorted --validation=0.
Expected time on two CPU cores: two to four minutes on MNIST; six with --preset=fast; eleven to 18 with
--preset=distorted; one to two minutes on the sample, the substitute where MNIST is not available.
"""

from tfcnn import cli
from tfcnn.networks.options import choose
from tfcnn.recipe import Presets, Recipe

RECIPE = Recipe(
    experiment="lenet5",
    network="lenet",
    options=choose(
        "lenet",
        variant="original",
        output="dense",
        normalization="none",
        activation="scaled_tanh",
        dropout=0.0,
        # The paper's first values (appendix A) are so small that gradients are small, too. Its learning rates, one for
        # each weight from second derivatives, compensate for that; with momentum nothing is learnt in the first 200 to
        # 500 steps. These are from LeCun, Bottou, Orr and Müller 1998, "Efficient BackProp", section 4.6.
        initializer="lecun_uniform",
    ),
    dataset="mnist",
    augment="none",
    crop_padding=2,
    mirror=False,  # no digit is another's mirror image
    epochs=20,  # section III.B
    batch_size=64,
    optimizer="momentum",
    momentum=0.9,
    learning_rate=0.01,
    schedule="cosine",
)
SAMPLE = {"epochs": 60}
PRESETS: Presets = {
    "fast": {"epochs": 40, "learning_rate": 0.03, "schedule": "one_cycle", "l2": 0.001},
    "distorted": {"augment": "translate:2,rotate:12,zoom:0.12,shear:12,elastic:12:4", "epochs": 60,
                  "learning_rate": 0.03, "l2": 0.0001},
}

if __name__ == "__main__":
    cli.run(RECIPE, sample=SAMPLE, presets=PRESETS)
