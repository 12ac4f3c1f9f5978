"""Numbers of the official programs on seeded features and images, and the recipe of both.

    python tests/evaluation/make_golden_metrics.py tests/golden/evaluation/metrics.json

with Python 3.11, torch 2.15.0, torch-fidelity 0.4.0, pytorch-fid 0.3.0, torchmetrics 1.9.0, scikit-image 0.26.0,
scipy 1.17.1 and numpy 2.4.6. Everything drawn comes from NumPy's RandomState, the same in all versions, so that only
results are stored.
"""

import json
import sys

import numpy as np

FEATURES = {"many": (600, 500, 24), "few": (60, 50, 96)}  # images, reference images, size
NUM_CLASSES, NUM_LOGITS = 20, 403
SUBSETS, SUBSET_SIZE = 8, 48
IMAGES = (6, 37, 29, 3)
SEED = 2020  # of torch-fidelity


def make_features(kind):
    """Correlated features of both sides, about as large as Inception's: (N, D) and (M, D) float32."""
    random = np.random.RandomState(list(FEATURES).index(kind))
    num, num_reference, size = FEATURES[kind]
    mixing = 0.4 * random.randn(size, size) / size**0.5
    features = random.randn(num, size) @ mixing * 1.1 + 0.6
    reference = random.randn(num_reference, size) @ mixing + 0.5
    return features.astype(np.float32), reference.astype(np.float32)


def make_logits():
    return (3 * np.random.RandomState(7).randn(NUM_LOGITS, NUM_CLASSES)).astype(np.float32)


def make_images():
    """Smooth images with noise, from almost none to much, one with flat areas: (B, H, W, C) uint8 and references."""
    random = np.random.RandomState(8)
    batch, height, width, channels = IMAGES
    rows, cols = np.arange(height)[None, :, None, None], np.arange(width)[None, None, :, None]
    frequency = random.uniform(0.05, 0.4, (2, batch, 1, 1, channels))
    references = 127.5 + 120 * np.sin(frequency[0] * rows) * np.cos(frequency[1] * cols)
    references[0, : height // 2] = 250
    noise = random.randn(*IMAGES) * np.geomspace(0.4, 40, batch)[:, None, None, None]
    images = np.clip(np.round(references + noise), 0, 255).astype(np.uint8)
    return images, np.clip(np.round(references), 0, 255).astype(np.uint8)


def distances(features, reference):
    """Of pytorch-fid, and of torch-fidelity: FID, KID, precision and recall."""
    import torch
    from pytorch_fid.fid_score import calculate_frechet_distance
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    exact = [x.astype(np.float64) for x in (features, reference)]
    statistics = [fid_features_to_statistics(torch.from_numpy(x)) for x in exact]
    both = [torch.from_numpy(x) for x in (features, reference)]
    return {
        "pytorch-fid": float(calculate_frechet_distance(*(s[key] for s in statistics for key in ("mu", "sigma")))),
        "torch-fidelity": fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"],
        **kid_features_to_metric(*both, kid_subsets=SUBSETS, kid_subset_size=SUBSET_SIZE, rng_seed=SEED, verbose=False),
        **prc_features_to_metric(*both, prc_neighborhood=3, prc_batch_size=100, save_cpu_ram=False, verbose=False),
    }


def similarities(images, references):
    """Of scikit-image and of torchmetrics, one an image, of colours and of luma.

    torchmetrics' SSIM counts places where the window hangs over the border too; its map is cut to the others.
    """
    import torch
    from skimage.color import rgb2ycbcr
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity
    from torchmetrics.functional.image import peak_signal_noise_ratio as torch_psnr
    from torchmetrics.functional.image import structural_similarity_index_measure as torch_ssim

    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    found = {}
    for space, convert in {"rgb": np.float64, "luma": lambda x: rgb2ycbcr(x)[..., :1]}.items():
        pairs = list(zip(convert(images), convert(references), strict=True))
        batches = [torch.from_numpy(convert(x)).permute(0, 3, 1, 2) for x in (images, references)]
        each = {"data_range": 255.0, "reduction": "none"}
        _, ssim_map = torch_ssim(*batches, return_full_image=True, **each)
        found[space] = {
            "skimage psnr": [float(peak_signal_noise_ratio(b, a, data_range=255)) for a, b in pairs],
            "skimage ssim": [float(structural_similarity(b, a, channel_axis=-1, **window)) for a, b in pairs],
            "torchmetrics psnr": torch_psnr(*batches, dim=(1, 2, 3), **each).tolist(),
            "torchmetrics ssim": ssim_map[..., 5:-5, 5:-5].mean((1, 2, 3)).tolist(),
        }
    return found


def main(path):
    import torch
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = torch.from_numpy(make_logits())
    results = {
        "features": {kind: distances(*make_features(kind)) for kind in FEATURES},
        "inception score": isc_features_to_metric(logits, 10, False),
        "inception score, shuffled": isc_features_to_metric(logits, 10, True, SEED),
        "images": similarities(*make_images()),
    }
    with open(path, "w") as file:
        json.dump(results, file, indent=1)


if __name__ == "__main__":
    main(sys.argv[1])
