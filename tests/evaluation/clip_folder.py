"""A tiny random CLIP in the layout of Hugging Face, the same in every environment: for tests and golden numbers."""

import json
import sys
from pathlib import Path

import numpy as np

TEXTS = ("A photo of a cat.", "the  CAT's dog, 42 of them", "", "far more words than fit into the tiny text tower " * 3)
_SPLIT = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_START, _END = "<|startoftext|>", "<|endoftext|>"


def write(folder: Path, **text_config) -> Path:
    """Writes config, weights, tokenizer and settings; `text_config` changes some of the text tower's settings."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    end = tokenizer.token_to_id(_END)
    common = {"num_hidden_layers": 2, "num_attention_heads": 4}
    text = common | {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "intermediate_size": 64,
        "max_position_embeddings": 16,
        "eos_token_id": end,
        "bos_token_id": tokenizer.token_to_id(_START),
        "pad_token_id": end,
    }
    image = common | {"hidden_size": 24, "intermediate_size": 48, "image_size": 32, "patch_size": 8}
    config = {"model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": 16}
    config |= {"text_config": text | text_config, "vision_config": image}
    preprocessor = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 36},
        "crop_size": {"height": 32, "width": 32},
        "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    write_json(folder / "config.json", config)
    write_json(folder / "preprocessor_config.json", preprocessor)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "pad_token": _END})
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(make_tensors(config), folder / "model.safetensors", {"format": "pt"})
    return folder


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content))


def make_tensors(config: dict) -> dict[str, np.ndarray]:
    """Random weights under the published names, large enough for every part to matter."""
    from pdm_jax.interop.clip import define_clip, official_shapes  # the official programs have no JAX

    rng = np.random.default_rng(14)
    shapes = official_shapes(define_clip(config))
    tensors = {name: np.asarray(rng.normal(0, 0.2, shapes[name]), np.float32) for name in sorted(shapes)}
    norms = [name for name in shapes if "norm" in name and name.endswith("weight")]
    return tensors | {name: 1 + tensors[name] for name in norms}


def make_tokenizer():
    """CLIP's tokenizer with an alphabet of bytes and a few merges."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("c", "a"), ("ca", "t</w>"), ("o", "f</w>"), ("p", "h"), ("t", "h"), ("th", "e</w>")]
    words = letters + [f"{letter}</w>" for letter in letters] + ["".join(pair) for pair in merges] + [_START, _END]
    vocab = {word: i for i, word in enumerate(words)}
    model = models.BPE(vocab, merges, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=_END)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    split = pre_tokenizers.Split(Regex(_SPLIT), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    ends = (_END, vocab[_END]), (_START, vocab[_START])
    tokenizer.post_processor = processors.RobertaProcessing(*ends, trim_offsets=False, add_prefix_space=False)
    tokenizer.add_special_tokens([_START, _END])
    return tokenizer


def make_images() -> np.ndarray:
    """Four smooth random images uint8 (4, 50, 41, 3)."""
    rng = np.random.default_rng(8)
    coarse = rng.integers(0, 256, (4, 10, 9, 3)).repeat(5, axis=1).repeat(5, axis=2)[:, :, :41]
    return np.clip(coarse + rng.integers(-20, 21, coarse.shape), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
