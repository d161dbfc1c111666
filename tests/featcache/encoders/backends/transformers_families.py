"""Every architecture family of transformers against what we store of it, on tiny random weights.

`python -m tests.featcache.encoders.backends.transformers_families [NAME ...]` prints each family's
outcome and counts them: `equal`, `refused` (one line, with the reason), `wrong`, `traceback`, and
`not built` where the library itself cannot make or run a model so small.
"""

import json
import logging
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from lightalign.featcache.encoders.base import Encoder
from lightalign.featcache.encoders.card import EncoderCard, Layout
from lightalign.featcache.encoders.loading import build_encoder
from lightalign.featcache.encoders.pooling import FeaturePooling
from lightalign.featcache.encoders.references import find_card
from lightalign.featcache.errors import LightalignError, SpecError
from lightalign.featcache.types import Item, Modality

from ...conftest import PROCESSOR, TEXT_CARD, VISION_CARD, write_tokenizer

TEXTS = ["a dog runs", "the man with the red hat runs a green dog", "", "zebra the"]
TOLERANCE = 2e-5  # relative to the largest feature: rounding of a batch of another shape
MOST_TOKENS = 24
MOST_PARAMETERS = 70_000_000
MOST_SECONDS = 300  # of a large model on a busy machine; the usual ones take one or two

SMALL = {
    "hidden_size": 32, "d_model": 32, "n_embd": 32, "dim": 32, "embed_dim": 32, "emb_dim": 32,
    "num_hidden_layers": 2, "num_layers": 2, "n_layer": 2, "n_layers": 2, "encoder_layers": 2,
    "decoder_layers": 2, "num_decoder_layers": 2, "num_encoder_layers": 2,
    "num_attention_heads": 4, "num_heads": 4, "n_head": 4, "n_heads": 4,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "d_kv": 8, "d_head": 8,
    "intermediate_size": 64, "ffn_dim": 64, "d_ff": 64, "d_inner": 64, "hidden_dim": 64,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "ffn_hidden_size": 64, "n_inner": 64, "dff": 64,
    "embedding_size": 32, "word_embed_proj_dim": 32, "projection_dim": 16, "conv_kernel_size": 3,
    "vocab_size": 16, "pad_token_id": 13, "bos_token_id": 11, "eos_token_id": 12,
    "decoder_start_token_id": 11, "cls_token_id": 11, "sep_token_id": 12, "mask_token_id": 14,
    "max_position_embeddings": 40, "n_positions": 40, "n_ctx": 40, "max_seq_len": 40,
    "max_seq_length": 40, "max_sequence_length": 40,
    "image_size": 32, "patch_size": 8, "num_channels": 3,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_intermediate_size": 16,
    "num_experts_per_tok": 2, "shared_expert_intermediate_size": 16, "expert_ffn_hidden_size": 16,
    "moe_num_experts": 4, "moe_k": 2, "moe_topk": 2, "first_k_dense_replace": 1, "n_group": 1,
    "topk_group": 1, "sliding_window": 16, "attention_window": 8,
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 8, "rotary_dim": 4, "entity_vocab_size": 16, "entity_emb_size": 16,
    "qk_head_dim": 16, "state_size": 8, "mamba_d_state": 8, "mamba_n_heads": 4,
    "mamba_d_head": 16, "mamba_expand": 2, "lru_width": 32,
}  # fmt: skip
_SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 1, 1],
         "num_heads": [2, 2, 4], "window_size": 4}  # fmt: skip
# All options of families that the general ones do not fit.
OPTIONS: dict[str, dict[str, Any]] = {
    "swin": _SWIN,
    "swinv2": _SWIN,
    "donut-swin": _SWIN,
    "maskformer-swin": _SWIN,
    "swin2sr": {
        "image_size": 16,
        "embed_dim": 16,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "window_size": 4,
    },
    "hiera": {"embed_dim": 16, "image_size": [64, 64], "depths": [1, 1, 1, 1]},
    "efficientnet": {
        "image_size": 64,
        "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
        "hidden_dim": 1280,
    },
    "mobilevitv2": {
        "image_size": 64,
        "base_attn_unit_dims": [16, 24, 32],
        "n_attn_blocks": [1, 1, 1],
    },
    "levit": {
        "image_size": 64,
        "hidden_sizes": [16, 32, 48],
        "num_attention_heads": [1, 2, 3],
        "depths": [1, 1, 1],
        "key_dim": [8, 8, 8],
    },
    "mamba2": {
        "hidden_size": 32,
        "num_heads": 8,
        "head_dim": 8,
        "num_hidden_layers": 2,
        "state_size": 8,
        "n_groups": 1,
        "vocab_size": 16,
        "pad_token_id": 13,
    },
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": 16,
        "attention_types": [[["global", "local"], 1]],
        "max_position_embeddings": 40,
        "bos_token_id": 11,
        "eos_token_id": 12,
    },
    "funnel": {
        "d_model": 32,
        "n_head": 4,
        "d_head": 8,
        "d_inner": 64,
        "block_sizes": [1, 1],
        "block_repeats": [1, 1],
        "architectures": ["FunnelModel"],
        "vocab_size": 16,
    },
    "reformer": {
        "hidden_size": 32,
        "axial_pos_embds_dim": [16, 16],
        "axial_pos_shape": [4, 8],
        "num_attention_heads": 4,
        "attention_head_size": 8,
        "vocab_size": 16,
        "attn_layers": ["local", "lsh"],
        "feed_forward_size": 64,
        "max_position_embeddings": 32,
        "pad_token_id": 13,
        "eos_token_id": 12,
    },
    "xmod": {
        **{
            name: SMALL[name]
            for name in (
                "hidden_size",
                "num_hidden_layers",
                "num_attention_heads",
                "intermediate_size",
                "vocab_size",
            )
        },
        "languages": ["en_XX"],
        "default_language": "en_XX",
        "max_position_embeddings": 40,
        "pad_token_id": 13,
    },
    "timesformer": {
        "image_size": 32,
        "patch_size": 8,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    },
    "convnext": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "image_size": 64},
    "convnextv2": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "image_size": 64},
}
_MODULE = {
    name: SMALL[name]
    for name in (
        "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "head_dim", "intermediate_size", "vocab_size", "max_position_embeddings",
    )
}  # fmt: skip
# Options beside the general ones, where those do not fit together.
FURTHER: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "cohere_compass_text": {
        "layer_types": ["full_attention", "sliding_attention"],
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 1e4}
            for kind in ("full_attention", "sliding_attention")
        },
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8},
        "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "dots1": {"n_shared_experts": 1},
    "esmc": {"num_key_value_heads": 4},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {
        "num_kv_shared_layers": 0,
        "activation_sparsity_pattern": [0.0, 0.0],
        "vocab_size_per_layer_input": 16,
        "hidden_size_per_layer_input": 8,
    },
    "gemma4_text": {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 16},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
    },
    "lfm2_moe": {"layer_types": ["full_attention", "conv"]},
    "neomme": {"head_dim": 16},
    "perceiver": {"d_latents": 32, "num_latents": 8},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
    },
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "t5gemma": {
        part: {**_MODULE, "pad_token_id": SMALL["pad_token_id"]} for part in ("encoder", "decoder")
    },
    "zamba": {
        "num_hidden_layers": 6,
        "layer_types": ["mamba", "hybrid", "mamba"] * 2,
        "attn_layer_period": 3,
        "attn_layer_offset": 1,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "mamba_dt_rank": 2,
        "use_mamba_kernels": False,
    },
    "zamba2": {"hybrid_layer_ids": [1]},
    "xlstm": {"hidden_size": 64, "qk_dim_factor": 1.0},
    "zaya": {"num_experts_per_tok": 1},
}
_BACKBONE = "transformers' AutoModel has no class for it, only AutoBackbone, which gives maps"
# Families of which transformers makes or runs no tiny model, and why.
NOT_BUILT = {
    "blt": "the library asks its configuration for layers that only its parts have",
    "depth_pro": "reads crops at three scales of an image of four times its patch of 384 pixels",
    "dinat": "needs natten, a package of compiled kernels that is not installed",
    "dots3_note": "its configuration names layers 25 to 41 one by one",
    "emu3": "its part that reads images has 270 million parameters at any size of the text part",
    "gemma3n": "its parts that read images and sounds have 980 million parameters at any size",
    "gemma4_assistant": "drafts tokens for another model, whose layers it shares",
    "gemma4_unified_assistant": "drafts tokens for another model, and is in no AutoModel",
    "lw_detr_vit": _BACKBONE,
    "moss_transcribe_diarize": "reads sounds; its part for them has 300 million parameters",
    "musicgen": "writes music; the library cannot build it from its configuration",
    "musicgen_melody": "writes music; the library cannot build it from its configuration",
    "phi4_multimodal": "its parts that read images and sounds have 440 million parameters",
    "pp_lcnet": _BACKBONE,
    "pp_lcnet_v3": _BACKBONE,
    "pp_lcnet_v4": _BACKBONE,
    "rf_detr_dinov2": _BACKBONE,
    "rt_detr_resnet": _BACKBONE,
    "shieldgemma2": "a classifier of images by words, which is in no AutoModel",
    "timm_backbone": "a model of timm as maps of its stages: timm_families tries those of timm",
    "trocr": "a decoder alone, which is in no AutoModel",
    "uvdoc_backbone": _BACKBONE,
    "vitpose_backbone": _BACKBONE,
}
# The norm that the model applies to its pooled vector only, by class.
NORMS = {
    "ConvNextModel": "layernorm",
    "ConvNextV2Model": "layernorm",
    "CLIPVisionModel": "post_layernorm",
    "ChineseCLIPVisionModel": "post_layernorm",
    "AltCLIPVisionModel": "post_layernorm",
    "CLIPSegVisionModel": "post_layernorm",
    "MetaClip2VisionModel": "post_layernorm",
    "MLCDVisionModel": "post_layernorm",
    "OwlViTVisionTransformer": "post_layernorm",
    "Owlv2VisionTransformer": "post_layernorm",
    "HieraModel": "pooler.layernorm",
    "BeitModel": "pooler.layernorm",
}


@dataclass
class Outcome:
    """What became of one family.

    Attributes:
        family: Its name in transformers, and the modality.
        verdict: `equal`, `refused`, `wrong`, `traceback` or `not built`.
        detail: Kinds that are equal, or the reason.
        kinds: Reason by refused kind, of a family that is equal otherwise.
    """

    family: str
    verdict: str
    detail: str = ""
    kinds: dict[str, str] = field(default_factory=dict)


def vision_families() -> list[str]:
    """Return the families of transformers' Auto classes that read images."""
    found = {
        *modeling_auto.MODEL_FOR_IMAGE_MAPPING_NAMES,
        *modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        *modeling_auto.MODEL_FOR_BACKBONE_MAPPING_NAMES,
        *PAIRS,
    }
    return sorted(found)


def text_families() -> list[str]:
    """Return the families of transformers' Auto classes that read texts."""
    found = {
        *modeling_auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
        *modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        *modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        *SEQUENCE_TO_SEQUENCE,
        *PAIRS,
    }
    return sorted(found)


SEQUENCE_TO_SEQUENCE = [
    "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "fsmt", "led", "longt5",
    "m2m_100", "marian", "mbart", "mvp", "nllb-moe", "pegasus", "pegasus_x", "plbart",
    "prophetnet", "switch_transformers", "t5", "t5gemma", "umt5",
]  # fmt: skip
PAIRS = [
    "aimv2", "align", "altclip", "blip", "chinese_clip", "clip", "clipseg", "flava", "groupvit",
    "metaclip_2", "owlv2", "owlvit", "siglip", "siglip2", "tipsv2", "vision-text-dual-encoder",
]  # fmt: skip


def small_config(family: str) -> Any:
    """Return the configuration of a tiny model."""
    config_class = CONFIG_MAPPING[family]
    return config_class(**_options(config_class, family))


def _options(config_class: Any, family: str) -> dict[str, Any]:
    default = config_class()
    known = {**vars(default), **{name: None for name in default.attribute_map}}
    options = {
        name: SMALL[name]
        for name in SMALL
        if name in known and not isinstance(_entry(default, name), list | tuple)
    }
    for name in ("vision_config", "text_config", "image_config"):
        part = getattr(default, name, None)
        if part is not None and not isinstance(part, dict):
            options[name] = _options(type(part), type(part).model_type or name)
    if "kv_lora_rank" in options and "num_key_value_heads" in options:
        options["num_key_value_heads"] = options["num_attention_heads"]
    layers = options.get("num_hidden_layers")
    names = ("layer_types", "layers_block_type")
    fixed = any(isinstance(getattr(config_class, name, None), property) for name in names)
    if layers and getattr(default, "layer_types", None) and not fixed:
        kinds = list(dict.fromkeys(default.layer_types))
        options["layer_types"] = (kinds * layers)[:layers]
    return OPTIONS.get(family, {**options, **FURTHER.get(family, {})})


def _entry(config: Any, name: str) -> Any:
    """Return an entry of a configuration; a list where each layer has its own."""
    try:
        return getattr(config, name, None)
    except RuntimeError:
        return []


def jitter(model: torch.nn.Module) -> None:
    """Move norms and biases away from what leaves features as they are."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and parameter.is_floating_point():
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
            elif "embed" not in name and parameter.ndim > 1 and parameter.std() < 0.1:
                parameter *= 4  # small initial weights would hide what attention adds


def save(family: str, folder: Path, modality: Modality) -> Any:
    """Write a tiny model of the family with what reads its items; return the model."""
    torch.manual_seed(0)
    config = small_config(family)
    with torch.device("meta"):
        size = transformers.AutoModel.from_config(config).num_parameters()
    assert size < MOST_PARAMETERS, f"{size:,} parameters are not tiny"
    model = transformers.AutoModel.from_config(config).eval()
    jitter(model)
    model.save_pretrained(folder)
    if modality is Modality.TEXT:
        write_tokenizer(folder)
    else:
        part = next((getattr(config, name) for name in ("vision_config", "image_config")
                     if hasattr(config, name)), config)  # fmt: skip
        edge = getattr(part, "image_size", 32)
        edge = edge if isinstance(edge, int) else edge[0]
        processor = {**PROCESSOR, "size": {"height": edge, "width": edge}}
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return model


def plain(model: Any, modality: Modality, inputs: dict[str, torch.Tensor]) -> Any:
    """Return what the library itself gives: of a pair its tower, of a decoder its encoder."""
    if modality is Modality.TEXT:
        model = getattr(model, "text_model", None) or model
        if model.config.is_encoder_decoder and hasattr(model, "get_encoder"):
            model = model.get_encoder()
    else:
        tower = getattr(model, "vision_model", None) or getattr(model, "image_model", None)
        model = tower or model
        if type(model).__name__ == "ViTMAEModel":
            model.config.mask_ratio = 0.0
            noise = torch.arange(16.0).expand(len(inputs["pixel_values"]), -1)
            inputs = {**inputs, "noise": noise}
    with torch.no_grad():
        return model, model(**inputs)


def photos() -> list[Item]:
    """Return three photos."""
    import io

    found = []
    for seed in range(3):
        noise = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noise).resize((70, 60)).save(stream, "PNG")
        found.append(Item(id=f"i{seed}", data=stream.getvalue()))
    return found


def check_family(family: str, modality: Modality, root: Path) -> Outcome:
    """Compare all kinds of one family."""
    folder = root / f"{family}-{modality.value}"
    name = f"{family} ({modality.value})"
    if family in NOT_BUILT:
        return Outcome(name, "not built", NOT_BUILT[family])
    try:
        model = save(family, folder, modality)
        reference = _reference(model, modality, folder)
    except TimeoutError as error:
        return Outcome(name, "not built", str(error))
    except Exception as error:  # whatever a library makes of a model so small
        return _unreadable(name, folder, modality, error)
    try:
        compare = _compare_images if modality is Modality.IMAGE else _compare_texts
        return compare(name, folder, *reference)
    except TimeoutError as error:
        return Outcome(name, "not built", str(error))
    except LightalignError as error:
        line = str(error)
        one_line = "\n" not in line and len(line) < 900
        return Outcome(name, "refused" if one_line else "wrong", line)
    except Exception:
        return Outcome(name, "traceback", traceback.format_exc()[-700:])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unreadable(name: str, folder: Path, modality: Modality, error: Exception) -> Outcome:
    """Return the outcome of a family that the library does not run on one input: our refusal."""
    card = VISION_CARD if modality is Modality.IMAGE else TEXT_CARD
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    if not (folder / "model.safetensors").is_file():
        return Outcome(name, "wrong", f"neither built nor named in NOT_BUILT: {reason}")
    try:
        build_encoder(card, weights=folder)
    except LightalignError as refusal:
        ours = "cannot be built" not in str(refusal)
        return Outcome(name, "refused" if ours else "wrong", str(refusal) if ours else reason)
    except Exception:
        return Outcome(name, "traceback", traceback.format_exc()[-700:])
    return Outcome(name, "wrong", f"read, though the library says {reason}")


def _reference(model: Any, modality: Modality, folder: Path) -> tuple[Any, ...]:
    if modality is Modality.TEXT:
        plain(model, modality, {"input_ids": torch.tensor([[11, 0, 1, 12]])})
        return (model,)
    config = json.loads((folder / "preprocessor_config.json").read_text())
    edge = config["size"]["height"]
    tower, output = plain(model, modality, {"pixel_values": torch.zeros(1, 3, edge, edge)})
    return model, tower, output.last_hidden_state.shape


def _card(tower: Any, shape: torch.Size) -> EncoderCard:
    if len(shape) == 4:
        return replace(VISION_CARD, width=shape[1], layout=Layout(grid=(shape[2], shape[3])))
    config = tower.config
    patch, edge = getattr(config, "patch_size", None), getattr(config, "image_size", 32)
    side = edge // patch if isinstance(patch, int) and isinstance(edge, int) else 0
    if side**2 not in range(max(1, shape[1] - 16), shape[1] + 1):
        side = int(shape[1] ** 0.5)
    layout = Layout(prefix_tokens=shape[1] - side**2, grid=(side, side))
    return replace(VISION_CARD, width=shape[2], layout=layout)


def _compare_images(name: str, folder: Path, model: Any, tower: Any, shape: torch.Size) -> Outcome:
    card = _card(tower, shape)
    encoder = build_encoder(card, weights=folder)
    prepared = [encoder.prepare(item) for item in photos()]
    tower, output = plain(model, Modality.IMAGE, {"pixel_values": torch.stack(prepared)})
    last = output.last_hidden_state
    tokens = last.flatten(2).transpose(1, 2) if last.ndim == 4 else last
    if type(tower).__name__ in NORMS:
        tokens = tower.get_submodule(NORMS[type(tower).__name__])(tokens)
    prefix, grid = card.layout.prefix_tokens, card.layout.grid
    cells = tokens[:, prefix:]
    rows = cells.reshape(len(cells), *grid, -1)
    half = rows[:, : -(-grid[0] // 2)].mean(dim=(1, 2)), rows[:, grid[0] // 2 :].mean(dim=(1, 2))
    expected = {
        "tokens": lambda: tokens,
        "cls": lambda: tokens[:, :1],
        "mean": lambda: cells.mean(dim=1, keepdim=True),
        "grid:2x1": lambda: torch.stack(half, dim=1),
        "pooled": lambda: _pooled(model, tower, output, {"pixel_values": torch.stack(prepared)}),
    }
    outcome = _compare(name, encoder, prepared, expected)
    try:
        derived = find_card(f"hf:{folder}#image").layout
    except LightalignError as error:  # of an image that is one cell, or of tokens in no grid
        outcome.kinds["derived card"] = str(error)
        return outcome
    if derived != card.layout:
        return replace(outcome, verdict="wrong", detail=f"derived {derived}, not {card.layout}")
    return outcome


def _compare_texts(name: str, folder: Path, model: Any) -> Outcome:
    words = _tower(model)
    config = words.config
    tower, output = plain(model, Modality.TEXT, {"input_ids": torch.tensor([[11, 0, 1, 12]])})
    width = output.last_hidden_state.shape[2]
    card = replace(TEXT_CARD, width=width, layout=Layout(ragged=True, max_tokens=MOST_TOKENS))
    encoder = build_encoder(card, weights=folder)
    prepared = [encoder.prepare(Item(id=f"t{i}", text=text)) for i, text in enumerate(TEXTS)]
    rows, pooled = [], []
    for ids in prepared:
        inputs = {"input_ids": torch.tensor([ids])}
        if type(words).__name__ in ("SiglipTextModel", "Siglip2TextModel"):  # trained on padding
            padded = ids + [13] * (config.max_position_embeddings - len(ids))
            inputs = {"input_ids": torch.tensor([padded])}
        tower, output = plain(model, Modality.TEXT, inputs)
        rows.append(output.last_hidden_state[0, : len(ids)])
        pooled.append(lambda inputs=inputs, tower=tower, output=output: _pooled(
            model, tower, output, inputs))  # fmt: skip
    expected = {
        "tokens": lambda: torch.cat(rows)[None],
        "cls": lambda: torch.stack([row[:1] for row in rows]),
        "mean": lambda: torch.stack([row.mean(dim=0, keepdim=True) for row in rows]),
        "last": lambda: torch.stack([row[-1:] for row in rows]),
        "pooled": lambda: torch.cat([one() for one in pooled]),
    }
    outcome = _compare(name, encoder, prepared, expected)
    try:
        derived = find_card(f"hf:{folder}#text")
    except LightalignError as error:
        outcome.kinds["derived card"] = str(error)
        return outcome
    if derived.width != width:
        return replace(outcome, verdict="wrong", detail=f"derived {derived.width}, not {width}")
    return outcome


def _tower(model: Any) -> Any:
    return getattr(model, "text_model", None) or model


def _pooled(model: Any, tower: Any, output: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    verb = "get_image_features" if "pixel_values" in inputs else "get_text_features"
    if tower is not model and hasattr(model, verb):
        with torch.no_grad():
            vectors = getattr(model, verb)(**inputs).pooler_output
    else:
        vectors = output.pooler_output
    return vectors.flatten(1)[:, None]


def _compare(
    name: str, encoder: Encoder, prepared: list, expected: dict[str, Callable[[], torch.Tensor]]
) -> Outcome:
    outcome = Outcome(name, "equal")
    equal = []
    for kind_name, make in expected.items():
        kind = FeaturePooling(kind_name)
        try:
            layer = kind.layer_read(-1)
            layout = encoder.layout(layer)
            kind.tokens_per_item(layout, encoder.modality)
            (tokens,) = encoder.encode_layers(prepared, [layer])
        except SpecError as error:
            outcome.kinds[kind_name] = str(error)
            continue
        kept = kind.reduce(tokens, layout)
        wanted = make()
        found = kept.values[kept.mask].reshape(-1, kept.width)
        wanted = wanted.reshape(-1, wanted.shape[-1])
        if found.shape != wanted.shape:
            shapes = f"{tuple(found.shape)} for {tuple(wanted.shape)}"
            return replace(outcome, verdict="wrong", detail=f"{kind_name}: {shapes}")
        difference = float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6))
        if not difference <= TOLERANCE:
            detail = f"{kind_name}: differs by {difference:.1e}"
            return replace(outcome, verdict="wrong", detail=detail)
        equal.append(kind_name)
    return replace(outcome, detail=" ".join(equal))


def sweep(names: list[str], *, seconds: int = 0) -> Iterator[Outcome]:
    """Yield the outcome of each family, or of the named ones.

    Args:
        names: Families, modalities, or `family:modality`; all if there are none.
        seconds: After how many SIGALRM interrupts a family, 0 for never.
    """
    root = Path(tempfile.mkdtemp())
    for modality, families in (
        (Modality.IMAGE, vision_families()),
        (Modality.TEXT, text_families()),
    ):
        for family in families:
            if not names or {family, modality.value, f"{family}:{modality.value}"} & set(names):
                signal.alarm(seconds)
                yield check_family(family, modality, root)
    shutil.rmtree(root, ignore_errors=True)


def _too_long(_number: int, _frame: Any) -> None:
    raise TimeoutError(f"took more than {MOST_SECONDS} s")


def main() -> None:
    """Print every outcome, then the counts."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    counts: Counter[str] = Counter()
    signal.signal(signal.SIGALRM, _too_long)
    began = time.perf_counter()
    for outcome in sweep(sys.argv[1:], seconds=MOST_SECONDS):
        took, began = time.perf_counter() - began, time.perf_counter()
        counts[outcome.verdict] += 1
        lines = [f"{outcome.verdict:10} {outcome.family} ({took:.1f} s): {outcome.detail}"]
        lines += [f"{'':10}   {kind}: {reason}" for kind, reason in outcome.kinds.items()]
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
    signal.alarm(0)
    sys.stdout.write(f"{dict(counts)}\n")


if __name__ == "__main__":
    main()
