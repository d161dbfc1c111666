"""Tiny random models, written by the libraries whose directories the encoders read."""

import io
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from lightalign.featcache.encoders.base import Encoder
from lightalign.featcache.encoders.card import EncoderCard, Layout, WeightsCard
from lightalign.featcache.encoders.loading import build_encoder, open_encoder
from lightalign.featcache.types import Item, Modality

SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
WORDS = ["a", "dog", "runs", "the", "man", "with", "red", "hat", "green", "##s", *SPECIAL]
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_act": "gelu",
}
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 32, "width": 32},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
TEXTS = ["a dog runs", "", "the man with the red hat runs on the green grass", "zebra"]


def image_card(backend: str, *, width: int, grid: tuple[int, int], prefix: int) -> EncoderCard:
    return EncoderCard(
        name=f"tiny-{backend}",
        title="Tiny",
        modality=Modality.IMAGE,
        backend=backend,
        model="test_vit.r160_in1k",
        width=width,
        layout=Layout(prefix_tokens=prefix, grid=grid),
        licence="Apache-2.0",
        source="random",
        weights=WeightsCard(hub="nobody/tiny"),
    )


TEXT_CARD = EncoderCard(
    name="tiny-text",
    title="Tiny",
    modality=Modality.TEXT,
    backend="huggingface",
    model="nobody/tiny",
    width=32,
    layout=Layout(ragged=True, max_tokens=12),
    licence="Apache-2.0",
    source="random",
    weights=WeightsCard(hub="nobody/tiny"),
)


Built = tuple[EncoderCard, Path]


def save_timm(folder: Path, architecture: str, **options: object) -> Path:
    """Write a random model as timm's hub directories are: classifier and all."""
    torch.manual_seed(0)
    model = timm.create_model(architecture, num_classes=5, **options)
    randomise_norms(model)
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {"architecture": architecture, "num_classes": 5, "model_args": options}
    (folder / "config.json").write_text(json.dumps({**config, "pretrained_cfg": {}}))
    return folder


def randomise_norms(model: torch.nn.Module) -> None:
    """Move norms away from the identity, so that leaving one out is seen."""
    for name, parameter in model.named_parameters():
        if "norm" in name.lower():
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)


def save_transformers(folder: Path, model: transformers.PreTrainedModel) -> Path:
    randomise_norms(model)
    model.save_pretrained(folder)
    return folder


def save_vision(folder: Path, model: transformers.PreTrainedModel) -> Path:
    save_transformers(folder, model)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


def save_text(folder: Path, model: transformers.PreTrainedModel) -> Path:
    save_transformers(folder, model)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(
        models.WordPiece({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [(word, WORDS.index(word)) for word in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, special)
    # As in real directories, padding and truncation of some training run are left switched on.
    tokenizer.enable_padding(length=20)
    tokenizer.enable_truncation(4)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        pad_token="[PAD]", mask_token="[MASK]",
    ).save_pretrained(folder)  # fmt: skip


VISION_CARD = image_card("huggingface", width=32, grid=(2, 2), prefix=1)


def vit() -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.ViTConfig(**SMALL, image_size=32, patch_size=16)
    return transformers.ViTModel(config)


def clip() -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    vision = {**SMALL, "image_size": 32, "patch_size": 16}
    text = {**SMALL, "vocab_size": 20, "max_position_embeddings": 8}
    config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=8)
    return transformers.CLIPModel(config)


def beit() -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.BeitConfig(
        **SMALL, image_size=32, patch_size=16, use_mean_pooling=True, use_mask_token=False
    )
    return transformers.BeitModel(config)


def bert() -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.BertConfig(**SMALL, vocab_size=len(WORDS), max_position_embeddings=16)
    return transformers.BertModel(config)


def distilbert_with_head() -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.DistilBertConfig(
        vocab_size=len(WORDS), max_position_embeddings=16, n_layers=2, n_heads=4, dim=32,
        hidden_dim=64,
    )  # fmt: skip
    return transformers.DistilBertForMaskedLM(config)


def roberta() -> transformers.PreTrainedModel:
    """Return a model whose first two positions are never used: the padding id is 1."""
    torch.manual_seed(0)
    config = transformers.RobertaConfig(
        **SMALL, vocab_size=len(WORDS), max_position_embeddings=14, pad_token_id=1
    )
    return transformers.RobertaModel(config)


def deberta() -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.DebertaV2Config(
        **SMALL, vocab_size=len(WORDS), max_position_embeddings=16, relative_attention=True,
        pos_att_type=["p2c", "c2p"], position_buckets=8, norm_rel_ebd="layer_norm",
        share_att_key=True, position_biased_input=False, type_vocab_size=0,
    )  # fmt: skip
    return transformers.DebertaV2Model(config)


def dinov2() -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.Dinov2Config(**SMALL, image_size=32, patch_size=16)
    return transformers.Dinov2Model(config)


TINY = {
    "timm vit": (image_card("timm", width=64, grid=(4, 4), prefix=1), None),
    "timm convolutional": (image_card("timm", width=256, grid=(5, 5), prefix=0), None),
    "transformers vit": (VISION_CARD, vit),
    "transformers dinov2": (VISION_CARD, dinov2),
    "transformers clip": (VISION_CARD, clip),
    "transformers beit": (VISION_CARD, beit),
    "transformers bert": (TEXT_CARD, bert),
    "transformers distilbert with a head": (TEXT_CARD, distilbert_with_head),
    "transformers roberta": (TEXT_CARD, roberta),
    "transformers deberta": (TEXT_CARD, deberta),
}


@dataclass
class TinyModels:
    """Write and open each tiny model once a session."""

    root: Path
    directories: dict[str, Path] = field(default_factory=dict)
    encoders: dict[str, Encoder] = field(default_factory=dict)

    def built(self, name: str) -> Built:
        card, make = TINY[name]
        if name not in self.directories:
            folder = self.root / name.replace(" ", "-")
            if name == "timm vit":
                save_timm(folder, "test_vit", img_size=64)
            elif name == "timm convolutional":
                save_timm(folder, "test_efficientnet")
            elif card.modality is Modality.IMAGE:
                save_vision(folder, make())
            else:
                save_text(folder, make())
            self.directories[name] = folder
        return card, self.directories[name]

    def opened(self, name: str) -> Encoder:
        if name not in self.encoders:
            self.encoders[name] = self.open_again(name)
        return self.encoders[name]

    def open_again(self, name: str) -> Encoder:
        if name not in TINY:
            return open_encoder(name)
        card, folder = self.built(name)
        return build_encoder(card, weights=folder)

    def copied(self, name: str, to: Path) -> Built:
        card, folder = self.built(name)
        return card, Path(shutil.copytree(folder, to / "copy"))

    def photo(self, seed: int, size: tuple[int, int] = (50, 40)) -> bytes:
        noise = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noise).resize(size).save(stream, "PNG")
        return stream.getvalue()

    def pixels(self, encoder: Encoder, seed: int = 0) -> torch.Tensor:
        return encoder.prepare(Item(id="i", data=self.photo(seed)))

    def items_for(self, encoder: Encoder) -> list[Item]:
        if encoder.modality is Modality.TEXT:
            texts = ["a dog runs", "", "the man with the red hat runs, runs, runs on", "zebra"]
            return [Item(id=f"t{index}", text=text) for index, text in enumerate(texts)]
        sizes = [(50, 40), (1, 1), (33, 90), (224, 224)]
        return [Item(id=f"i{seed}", data=self.photo(seed, size)) for seed, size in enumerate(sizes)]

    def save_timm(self, folder: Path, architecture: str, **options: object) -> Path:
        return save_timm(folder, architecture, **options)

    def image_card(
        self, backend: str, *, width: int, grid: tuple[int, int], prefix: int
    ) -> EncoderCard:
        return image_card(backend, width=width, grid=grid, prefix=prefix)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Return the tiny models; none is written before a test asks for it."""
    return TinyModels(tmp_path_factory.mktemp("tiny"))
