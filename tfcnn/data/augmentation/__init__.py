"""Augmentation: pure, batched functions of (images, seeds of the images, operations).

- `composition`: applies a list of operations to a batch; start reading here.
- `crop`, `geometry`: operations that move pixels, as maps from a pixel of the result to a position in the source.
- `resampling`: composes such maps and reads the image there, once.
- `colour`, `cutout`, `randaugment`: operations that change values.
- `mixing`: mixup and cutmix, which also change labels.
- `random_numbers`: one seed per image, and the draws of each operation.

What `--augment` may say is declared in `tfcnn/augmentations.py`.
"""
