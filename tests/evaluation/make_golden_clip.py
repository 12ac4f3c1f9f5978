"""The numbers of transformers and torchmetrics for the tiny CLIP of `clip_folder`.

    python -m tests.evaluation.clip_folder CLIP  # where this package is installed
    python -m tests.evaluation.make_golden_clip CLIP tests/golden/evaluation/clip.npz  # where the programs are

Both from the root of the repository. Made with transformers 5.23.0, torchmetrics 1.9.0 and torch 2.15.0 on a CPU.
"""

import sys

import numpy as np

from tests.evaluation.clip_folder import TEXTS, make_images


def reference(folder: str) -> dict[str, np.ndarray]:
    """What the programs make of the tests' images and texts with the CLIP in a folder."""
    import torch
    from torchmetrics.multimodal.clip_score import CLIPScore
    from transformers import AutoTokenizer, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    model, info = CLIPModel.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    model.eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = torch.from_numpy(make_images()).permute(0, 3, 1, 2)
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(list(images), return_tensors="pt")["pixel_values"]
    length = model.config.text_config.max_position_embeddings
    tokens = tokenizer(list(TEXTS), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    with torch.no_grad():
        output = model(pixel_values=pixels, **tokens)
    metric = CLIPScore(lambda: (_as_expected(model), _Processor(pixels, tokens)))
    metric.update(images, list(TEXTS))
    return {
        "pixels": pixels.permute(0, 2, 3, 1).numpy(),
        "tokens": tokens["input_ids"].numpy().astype(np.int32),
        "image_embeds": output.image_embeds.numpy(),
        "text_embeds": output.text_embeds.numpy(),
        "score": metric.compute().detach().numpy(),
    }


class _Processor:
    """Gives torchmetrics what was prepared: its own call would ask the network for a processor."""

    def __init__(self, pixels, tokens):
        self._pixels, self._tokens = pixels, tokens

    def __call__(self, images=None, **_):
        return self._tokens if images is None else {"pixel_values": self._pixels}


def _as_expected(model):
    """The model as torchmetrics 1.9 expects it: transformers 5 returns records where 4 returned the embeddings."""
    images, texts = model.get_image_features, model.get_text_features
    model.get_image_features = lambda pixels: images(pixels).pooler_output
    model.get_text_features = lambda tokens, mask: texts(tokens, mask).pooler_output
    return model


if __name__ == "__main__":
    np.savez_compressed(sys.argv[2], **reference(sys.argv[1]))
