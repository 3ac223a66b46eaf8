"""LeNet-5 reads handwritten digits: scaled tanh, trained sub-sampling, maps that see only some of those before.

Source: LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document recognition", Proceedings of
the IEEE; section numbers below are of that paper.
Command: python -m tfcnn.experiments.lenet5
Target: 0.9905 on MNIST, as section III.B has it after 20 passes over all 60,000 images (--validation=0); 0.992 with
distorted images (--augment=translate:2,zoom,shear, say).
Expected time on two CPU cores, estimated: four minutes on MNIST, one to two on the sample, which is trained on where
MNIST cannot be had.
"""

from tfcnn import cli, networks
from tfcnn.recipe import Option, Recipe

RECIPE = Recipe(
    experiment="lenet5",
    network="lenet",
    options={
        "variant": Option("original", ("original", "modern"),
                          "the network of 1998, or the same with plain mean pooling and all maps connected"),
        "output": Option("dense", ("dense", "radial_basis"),
                         "linear units, or the paper's distances from bitmaps of the ten digits, which want a third "
                         "of the learning rate"),
        "normalization": Option("none", ("none", "batch"), "what normalizes the convolutions' outputs"),
        "activation": Option("scaled_tanh", ("scaled_tanh", *networks.ACTIVATIONS), "activation function"),
        "dropout": Option(0.0, help="share of the activations dropped after C5 and after F6"),
        # The paper's values (appendix A) are so small that gradients are, too. Its learning rates, one a weight from
        # second derivatives, make up for that; with momentum nothing is learnt in the first 200 to 500 steps. These
        # are of LeCun, Bottou, Orr and Müller 1998, "Efficient BackProp", section 4.6.
        "initializer": Option("lecun_uniform", networks.INITIALIZERS, "first values of the weights"),
    },
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

if __name__ == "__main__":
    cli.run(RECIPE, on_sample={"epochs": 60})
