"""The three commands on a Flickr30k layout, with real architectures whose weights are given."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..test_readme import write_flickr30k


def lightalign(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lightalign", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={**os.environ, "LIGHTALIGN_HOME": str(home)},
    )


def save_vit_s16(path: Path) -> None:
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model("vit_small_patch16_224.dino", num_classes=0).state_dict(), path)


def save_distilbert(folder: Path) -> None:
    import torch
    from transformers import BertTokenizerFast, DistilBertConfig, DistilBertModel

    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "picture", "number", "of", "colour"]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join([*words, *map(str, range(60))]))
    DistilBertModel(DistilBertConfig(vocab_size=70)).save_pretrained(folder)
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_three_commands_run_as_written_with_weights_of_the_right_shape(tmp_path):
    home = tmp_path / "home"
    write_flickr30k(home / "datasets" / "flickr30k")
    save_vit_s16(tmp_path / "vits16.safetensors")
    save_distilbert(tmp_path / "distilbert")
    image = ["--encoder", "dino-vits16", "--weights", str(tmp_path / "vits16.safetensors")]
    text = ["--encoder", "distilbert", "--weights", str(tmp_path / "distilbert")]
    for command in (
        ["extract", *image, "--data", "flickr30k"],
        ["extract", *text, "--data", "flickr30k"],
        ["train-adapter", "--fusion", "cross_attn"],
        ["retrieve", "--k", "100"],
    ):
        result = lightalign(*command, home=home)
        assert result.returncode == 0, result.stderr
    assert "text to image" in result.stdout
