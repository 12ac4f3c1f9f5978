"""What the official programs make of images, given weight files; needs torch and the programs.

Images are uint8 (B, H, W, 3), results float32 arrays.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import lpips
import numpy as np
import pytorch_fid.inception
import torch
from cleanfid.resize import make_resizer
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x


def save(path: Path, weights: Mapping[str, np.ndarray]) -> Path:
    """A state dict as a file."""
    torch.save({name: torch.from_numpy(value) for name, value in weights.items()}, path)
    return path


def resized(kind: str, images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Images as a program resizes them to (height, width)."""
    if kind == "tensorflow":
        x = interpolate_bilinear_2d_like_tensorflow1x(_to_torch(images).float(), size, align_corners=False)
        return x.numpy().transpose(0, 2, 3, 1)
    library, name = {"clean": ("PIL", "bicubic"), "pytorch": ("PyTorch", "bilinear")}[kind]
    # PIL wants (width, height), PyTorch the reverse.
    resizer = make_resizer(library, False, name, size[::-1] if kind == "clean" else size)
    return np.stack([resizer(image) for image in images])


@torch.no_grad()
def fidelity_inception(path: Path, images: np.ndarray, resize: str = "tensorflow") -> dict[str, np.ndarray]:
    """torch-fidelity's features, behind its own or another resize."""
    network = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], str(path))
    seen = []
    network.Mixed_6d.branch1x1.register_forward_hook(lambda module, inputs, output: seen.append(output))
    x, replaced = _to_torch(images), contextlib.nullcontext()
    if resize != "tensorflow":
        large = _to_torch(resized(resize, images, (299, 299)))
        name = "torch_fidelity.feature_extractor_inceptionv3.interpolate_bilinear_2d_like_tensorflow1x"
        replaced = mock.patch(name, lambda *args, **kwargs: large)
    with replaced:
        pool, logits = network(x)
    spatial = seen[0][:, :7].permute(0, 2, 3, 1).reshape(len(images), -1)  # as ADM flattens it
    return {"pool": pool.numpy(), "spatial": spatial.numpy(), "logits": logits.numpy()}


@torch.no_grad()
def pytorch_fid_pool(path: Path, images: np.ndarray) -> np.ndarray:
    """pytorch-fid's features."""
    return pytorch_fid_network(path)(_to_torch(images) / 255)[0][:, :, 0, 0].numpy()


def pytorch_fid_network(path: Path) -> torch.nn.Module:
    """pytorch-fid's network with the weights of a file."""
    with mock.patch("pytorch_fid.inception.load_state_dict_from_url", lambda *args, **kwargs: torch.load(path)):
        return pytorch_fid.inception.InceptionV3().eval()


@torch.no_grad()
def fidelity_vgg16(path: Path, images: np.ndarray) -> np.ndarray:
    """torch-fidelity's features for precision and recall."""
    return FeatureExtractorVGG16("vgg16", ["fc2_relu"], str(path))(_to_torch(images))[0].numpy()


@torch.no_grad()
def lpips_distance(backbone: str, path: Path, heads: Path, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The lpips package's distances."""
    network = lpips.LPIPS(net=backbone, pretrained=False, pnet_rand=True, verbose=False)
    official = torch.load(path)
    # slice2.5.weight there is features.5.weight in torchvision
    network.net.load_state_dict({name: official["features" + name[6:]] for name in network.net.state_dict()})
    network.load_state_dict(torch.load(heads), strict=False)
    return network(*(_to_torch(images) / 127.5 - 1 for images in (a, b)))[:, 0, 0, 0].numpy()


def _to_torch(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
