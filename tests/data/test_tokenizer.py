"""Captions to tokens: the same tokeniser from the same captions, and BERT's arrangement of tokens."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdm_jax.data.tokenizer import load_tokenizer, train_tokenizer
from pdm_jax.errors import UserError

_TEXTS = ["A small red fox", "a large red dog, and a fox", "two foxes above a déjà vu"] * 3
_PAD, _UNK, _CLS, _SEP = range(4)


@pytest.fixture(scope="module")
def trained():
    return train_tokenizer(_TEXTS, 90, 12)


def test_rows_begin_end_and_are_filled(trained):
    tokens = trained("a red fox")
    assert (tokens.dtype, tokens.shape) == (np.int32, (12,))
    assert tokens[:1] == _CLS and tokens[4:].tolist() == [_SEP] + [_PAD] * 7
    assert trained("")[:3].tolist() == [_CLS, _SEP, _PAD]
    assert trained("fox " * 50).tolist() == [_CLS, *trained("fox " * 10)[1:11], _SEP]
    assert trained("a 7")[2] == _UNK
    assert trained.vocab_size == 90


def test_case_and_accents_do_not_count(trained):
    np.testing.assert_array_equal(trained("Deja VU"), trained("déjà vu"))


@settings(deadline=None)
@given(st.lists(st.sampled_from(["fox", "red", "foxes", "dog", "above", "larger", ","]), max_size=3))
def test_texts_come_back(trained, words):
    text = " ".join(words)
    assert trained.texts(trained(text)[None])[0].replace(" ,", ",") == text.replace(" ,", ",")


def test_a_file_keeps_all_of_it(trained, tmp_path):
    path = tmp_path / "tokenizer.json"
    trained.save(path)
    loaded = load_tokenizer(path, 5, 90)
    np.testing.assert_array_equal(loaded("a red fox"), trained("a red fox")[:5])
    assert loaded("a red fox above").tolist() == [*trained("a red fox")[:4], _SEP]


_PRINT = f"""
from pdm_jax.data.tokenizer import train_tokenizer
tokenizer = train_tokenizer({_TEXTS}, 90, 12)
print([tokenizer(text).tolist() for text in {_TEXTS}])
"""


def test_the_same_captions_make_the_same_tokeniser_in_any_process(trained):
    runs = [subprocess.run([sys.executable, "-c", _PRINT], capture_output=True, check=True, text=True) for _ in "abc"]
    assert {run.stdout for run in runs} == {f"{[trained(text).tolist() for text in _TEXTS]}\n"}


def test_mistakes(trained, tmp_path):
    path = tmp_path / "tokenizer.json"
    trained.save(path)
    with pytest.raises(UserError, match=r"knows 90 tokens, the network 30522; give the tokeniser"):
        load_tokenizer(path, vocab_size=30522)
    with pytest.raises(UserError, match=r"cannot be read \(No such file"):
        load_tokenizer(tmp_path / "none.json")
    path.write_text("{}")
    with pytest.raises(UserError, match="is no tokeniser"):
        load_tokenizer(path)
    with pytest.raises(UserError, match="hold no words"):
        train_tokenizer([" ", ""], 90)
    with pytest.raises(UserError, match=r"need \d+ tokens for their letters alone; a vocabulary of 10 is too small"):
        train_tokenizer(_TEXTS, 10)


def test_texts_that_are_cut_are_known():
    tokenizer = train_tokenizer(["a red cat"], 40, 5)
    assert not tokenizer.cuts("a red cat")
    assert tokenizer.cuts("a red red cat")
    assert len(tokenizer("a red red cat")) == 5
