"""What iterative attacks reconstruct of Fashion-MNIST, where $GRADWIRE_DATA has it: mean SSIM of the first images.

Networks are untrained and in evaluation mode, images are not standardised, labels are known, one image is a victim, as
in table VIII of the study that these figures are compared with ("LMC" below).
"""

import os
from pathlib import Path

import pytest

import gradwire
from gradwire import data, models

VICTIMS = 4
SMOOTH = {"signed": False, "decay": "cosine", "iterations": 1000}
"""Plain Adam with a cosine decay: on small smooth networks it goes much further than signed steps."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.data,
    pytest.mark.skipif("GRADWIRE_DATA" not in os.environ, reason="GRADWIRE_DATA is not set"),
]


def ssim(model, scheme, attack, knowledge="adaptive", **options):
    if not (Path(os.environ["GRADWIRE_DATA"]) / "fashion_mnist").is_dir():
        pytest.skip("$GRADWIRE_DATA has no fashion_mnist")
    labels_known = options.pop("labels_known", True)
    pictures = data.load("fashion_mnist", "test", limit=VICTIMS)
    network = models.build(model, pictures.shape, pictures.num_classes, seed=0)
    views = [
        gradwire.capture(network, *pictures.batch([i]), scheme, mode="eval", labels_known=labels_known, freeze=False)
        for i in range(VICTIMS)
    ]
    guess = gradwire.invert(views, attack, knowledge, **(SMOOTH | options))
    truth = pictures.batch(range(VICTIMS))[0][:, None]
    return float(gradwire.score(guess.images, truth).ssim.mean())


def test_lenet_gives_images_away():
    assert ssim("lenet", "none", "dlg", optimizer="adam", iterations=3000) >= 0.95
    assert ssim("lenet", "none", "iga", tv=1e-6, iterations=3000) >= 0.95


@pytest.mark.parametrize(("attack", "options"), [("dlg", {"optimizer": "adam"}), ("iga", {"tv": 1e-6})])
def test_the_mlp_gives_images_away(attack, options):
    # ReLU networks have local minima in which single starts stay: LMC takes three as well.
    assert ssim("mlp", "none", attack, restarts=3, **options) >= 0.99


def test_a_little_noise_does_not_protect_lenet():
    naive = ssim("lenet", "noise:std=0.01", "iga", "naive", tv=1e-4)
    assert naive >= 0.6
    # Who knows how much noise there is knows how far to trust what was sent.
    assert ssim("lenet", "noise:std=0.01", "bayes") > naive


def test_sparsification_stops_who_takes_zeros_for_gradients_and_not_who_knows_better():
    naive = ssim("lenet", "sparsify:drop=0.9", "iga", "naive", tv=1e-6)
    assert naive <= 0.15
    assert ssim("lenet", "sparsify:drop=0.9", "iga", "adaptive", tv=1e-6) >= 0.45
    assert ssim("lenet", "sparsify:drop=0.9", "bayes", "adaptive") >= 0.85
