"""Where the data sets of the Hugging Face hub are, and how their tables are laid out."""

from dataclasses import dataclass, field

from gradwire.data.pictures import Mode


@dataclass(frozen=True)
class Source:
    """Where a data set is on the hub, and how its table is laid out.

    Attributes:
        repo: the hub's `owner/name`.
        classes: how many classes there are; they are numbered where the table does not name them.
        image: the column of pictures.
        label: the column of class numbers.
        mode: one channel (`L`) or three (`RGB`).
        splits: what the hub calls a split, where that differs from what it is called here.
    """

    repo: str
    classes: int = 10
    image: str = "image"
    label: str = "label"
    mode: Mode = "RGB"
    splits: dict[str, str] = field(default_factory=dict)


SOURCES = {
    "mnist": Source("ylecun/mnist", mode="L"),
    "fashion_mnist": Source("zalando-datasets/fashion_mnist", mode="L"),
    "cifar10": Source("uoft-cs/cifar10", image="img"),
    "cifar100": Source("uoft-cs/cifar100", classes=100, image="img", label="fine_label"),
    # The labels of the real test set were never published: its 10,000 validation images serve as the test split.
    "tiny_imagenet": Source("zh-plus/tiny-imagenet", classes=200, splits={"test": "valid"}),
}
