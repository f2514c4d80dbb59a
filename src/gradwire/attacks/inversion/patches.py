"""The likelihood of images, patch by patch, under a mixture of Gaussians that is fitted to public images.

D. Zoran, Y. Weiss, "From learning models of natural image patches to whole image restoration", ICCV 2011: the expected
patch log likelihood, eq. 2, under a mixture of Gaussians, section 4.
"""

from dataclasses import dataclass, field, replace
from math import log, pi

import torch
from torch import Tensor
from torch.nn.functional import unfold

from gradwire.errors import GradwireError
from gradwire.seeds import number

SIZE, COMPONENTS, PATCHES = 4, 10, 20_000
FLOOR = 1e-4
"""Added to every variance, for what a mixture of few components misses and for rounded pixels."""


@dataclass(frozen=True)
class PatchPrior:
    """A mixture of K Gaussians over patches of size × size pixels, with all their channels: D numbers.

    Attributes:
        weights: shape (K,).
        means: shape (K, D).
        whitening: W with WᵀW the inverse covariance, shape (K, D, D).
        size: of a patch.
        source: what it was fitted to, in words.
    """

    weights: Tensor = field(repr=False)
    means: Tensor = field(repr=False)
    whitening: Tensor = field(repr=False)
    size: int
    source: str

    @classmethod
    def fit(
        cls, images: Tensor, source: str, size: int = SIZE, components: int = COMPONENTS, seed: int = 0
    ) -> "PatchPrior":
        """Fit it to patches drawn at random from images (N, C, H, W)."""
        # sklearn takes a second to import.
        from sklearn.mixture import GaussianMixture

        if min(images.shape[2:]) < size:
            raise GradwireError(f"images of {images.shape[2]}×{images.shape[3]} pixels hold no patch of {size}×{size}")
        patches = _patches(images, size)
        random = torch.Generator().manual_seed(number("patches", seed) % 2**63)
        patches = patches[torch.randperm(len(patches), generator=random)[:PATCHES]]
        if len(patches) < 10 * components:
            raise GradwireError(f"{len(patches)} patches are too few for {components} components; give more images")
        mixture = GaussianMixture(components, reg_covar=FLOOR, random_state=number("mixture", seed) % 2**32)
        mixture.fit(patches.double().numpy())
        weights, means, factors = (
            torch.from_numpy(x).float() for x in (mixture.weights_, mixture.means_, mixture.precisions_cholesky_)
        )
        return cls(weights, means, factors.mT.contiguous(), size, source)

    def to(self, device: str) -> "PatchPrior":
        """The same prior elsewhere."""
        moved = {name: getattr(self, name).to(device) for name in ("weights", "means", "whitening")}
        return replace(self, **moved)

    def energy(self, images: Tensor) -> Tensor:
        """−Σ log p(patch) over all patches, divided by size²: a pixel is in size² patches. (V, B, C, H, W) → (V,)."""
        patches = _patches(images.flatten(0, 1), self.size)
        weights, means, whitening = (x.to(patches) for x in (self.weights, self.means, self.whitening))
        white = torch.einsum("kij,mkj->mki", whitening, patches[:, None] - means)
        volume = whitening.diagonal(dim1=1, dim2=2).log().sum(1) - means.shape[1] * log(2 * pi) / 2
        likelihood = (weights.log() + volume - white.square().sum(2) / 2).logsumexp(1)
        return -likelihood.view(len(images), -1).sum(1) / self.size**2


def _patches(images: Tensor, size: int) -> Tensor:
    """All overlapping patches of images (N, C, H, W), image after image: (M, C·size²)."""
    return unfold(images, size).mT.flatten(0, 1)
