"""Captions to tokens with Hugging Face's `tokenizers`: from a file, or trained on the captions at hand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pdm_jax.errors import UserError
from pdm_jax.files import write_whole

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


class Tokenizer:
    """Texts to rows of exactly `max_length` tokens: [CLS], the text (cut where it is too long), [SEP], then [PAD].

    The empty text, [CLS] [SEP] [PAD] ..., is what guidance takes for no caption (LDM facts, section 5).
    """

    def __init__(self, tokenizer: Any, max_length: int):
        """`tokenizer` is a `tokenizers.Tokenizer`; it is set to this length."""
        pad = tokenizer.token_to_id("[PAD]")
        tokenizer.enable_truncation(max_length)
        tokenizer.enable_padding(pad_id=pad, pad_token="[PAD]", length=max_length)
        self._tokenizer = tokenizer
        self.max_length = max_length

    @property
    def vocab_size(self) -> int:
        """How many different tokens there are: rows of the embedding."""
        return self._tokenizer.get_vocab_size()

    @property
    def vocabulary(self) -> dict[str, int]:
        """The number of each token."""
        return self._tokenizer.get_vocab()

    def __call__(self, text: str) -> np.ndarray:
        """The tokens int32 [max_length] of a text."""
        return np.array(self._tokenizer.encode(text).ids, np.int32)

    def cuts(self, text: str) -> bool:
        """Whether a text has more tokens than a row holds."""
        return bool(self._tokenizer.encode(text).overflowing)

    def texts(self, tokens: np.ndarray) -> list[str]:
        """What rows of tokens (B, max_length) say, nearly: case and spacing are as the tokeniser leaves them."""
        return self._tokenizer.decode_batch(tokens.tolist())

    def save(self, path: Path) -> None:
        """Writes a tokenizer.json."""
        write_whole(path, lambda file: file.write(self._tokenizer.to_str(pretty=True).encode()))


def load_tokenizer(path: str | Path, max_length: int = 77, vocab_size: int | None = None) -> Tokenizer:
    """Reads a `tokenizer.json`, such as that of bert-base-uncased.

    Args:
      path: the file.
      max_length: of all rows of tokens.
      vocab_size: of the network that reads them; None takes any.

    Raises:
      UserError: the file is no tokeniser, has no [PAD], or another number of tokens than the network.
    """
    import tokenizers
    from etils import epath

    try:
        text = epath.Path(path).expanduser().read_text(encoding="utf-8")
        tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(text), max_length)
    except OSError as error:
        raise UserError(f"the tokeniser {path} cannot be read ({error.strerror}); give a tokenizer.json") from error
    except Exception as error:  # all that the library raises for what is no tokeniser
        raise UserError(f"{path} is no tokeniser ({error}); give a tokenizer.json with the token [PAD]") from error
    if vocab_size is not None and tokenizer.vocab_size != vocab_size:
        raise UserError(
            f"the tokeniser {path} knows {tokenizer.vocab_size} tokens, the network {vocab_size}; "
            "give the tokeniser that the network was made for, or a network of that many"
        )
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int = 77) -> Tokenizer:
    """Makes a WordPiece tokeniser of lower-case words, as BERT's, from texts; the same texts always make the same one.

    Args:
      texts: such as all captions of a data set.
      vocab_size: how many tokens it has, the four special ones and all letters among them; where the texts hold fewer,
        the last are unused.
      max_length: of all rows of tokens.

    Raises:
      UserError: there are no words, or more letters than the vocabulary has room for.
    """
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = [word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))]
    # The trainer numbers the letters inside words in the order of a hash map, and which pieces it makes hangs on the
    # numbers. As special tokens they have fixed numbers; the tokeniser made of its vocabulary knows them as letters.
    inner = sorted({f"##{letter}" for word in words for letter in word[1:]})
    learner = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    learner.train_from_iterator(
        words, trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=_SPECIAL + inner, show_progress=False)
    )
    vocabulary = learner.get_vocab()
    if len(vocabulary) == len(_SPECIAL):
        raise UserError("the captions hold no words to train a tokeniser on; write captions, or give a tokenizer.json")
    if len(vocabulary) > vocab_size:
        raise UserError(
            f"the captions need {len(vocabulary)} tokens for their letters alone; a vocabulary of {vocab_size} is too "
            "small"
        )
    vocabulary |= {f"[unused{number}]": number for number in range(len(vocabulary), vocab_size)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(_SPECIAL)
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    return Tokenizer(tokenizer, max_length)
