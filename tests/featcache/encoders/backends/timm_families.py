"""Every architecture family of timm: what we store against the plain library.

`python -m tests.featcache.encoders.backends.timm_families [FAMILY ...]` goes through all of them,
or those named, and prints how many are equal, refused, wrong, or ended in a traceback. Each model
is random, its norms and biases moved away from the identity, and saved as timm saves.
"""

import io
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from timm.models import save_for_hf

from lightalign.featcache.encoders.loading import build_encoder
from lightalign.featcache.encoders.pooling import FeaturePooling
from lightalign.featcache.encoders.references import find_card
from lightalign.featcache.errors import LightalignError, SpecError
from lightalign.featcache.types import Item, Modality

TOLERANCE = 2e-4  # of values about 1, after as many layers as a family has
SEVERAL = "several sets of tokens"
ALONE = "form no grid"


@dataclass(frozen=True)
class Family:
    """One architecture of a module of timm, and what its code says of its output.

    Attributes:
        model: Name of the architecture.
        prefix: Tokens before the grid.
        registers: Whether those are registers only, of which none stands for the image.
        norm: Whether the norm stands behind the pooling, so that `forward_features` lacks it.
        last: Whether `forward_features` returns maps [rows, columns, width].
        refused: What the refusal says, where the model has no one grid.
        arguments: What makes the model small.
    """

    model: str
    prefix: int = 0
    registers: bool = False
    norm: bool = False
    last: bool = False
    refused: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


_TINY = {"depth": 2, "embed_dim": 48, "num_heads": 4}
_SWIN = {"depths": (1, 1, 1, 1), "embed_dim": 24}
_DAVIT = {"depths": (1, 1, 1, 1), "embed_dims": (24, 48, 96, 192), "num_heads": (1, 2, 4, 8)}
_SEQUENCER = {
    "layers": (1, 1, 1, 1),
    "embed_dims": (24, 48, 48, 48),
    "hidden_sizes": (12, 24, 24, 24),
}
FAMILIES = {
    "beit": Family("beit_base_patch16_224", prefix=1, norm=True, arguments=_TINY),
    "byoanet": Family("halonet_h1"),
    "byobnet": Family("test_byobnet"),
    "cait": Family("cait_xxs24_224", prefix=1),
    "coat": Family("coat_tiny", refused=SEVERAL),
    "convit": Family("convit_tiny", prefix=1),
    "convmixer": Family("convmixer_768_32"),
    "convnext": Family("test_convnext", norm=True),
    "cpubone": Family("cpubone_nano"),
    "crossvit": Family("crossvit_tiny_240", refused=SEVERAL),
    "csatv2": Family("csatv2", norm=True),
    "cspnet": Family("cs3darknet_focus_s"),
    "cspnext": Family("cspnext_tiny"),
    "davit": Family("davit_tiny", norm=True, arguments=_DAVIT),
    "deepseek_vit": Family("deepseek_vit_412m", last=True, arguments=_TINY),
    "deit": Family("deit_tiny_patch16_224", prefix=1),
    "densenet": Family("densenet121"),
    "dla": Family("dla46x_c"),
    "dpn": Family("dpn48b"),
    "edgenext": Family("edgenext_xx_small", norm=True),
    "efficientformer": Family("efficientformer_l1"),
    "efficientformer_v2": Family("efficientformerv2_s0"),
    "efficientnet": Family("test_efficientnet"),
    "efficientvim": Family("efficientvim_m1", refused=SEVERAL),
    "efficientvit_mit": Family("efficientvit_b0"),
    "efficientvit_msra": Family("efficientvit_m0"),
    "eva": Family("eva02_tiny_patch14_224", prefix=1, norm=True),
    "fasternet": Family("fasternet_t0"),
    "fastvit": Family("fastvit_t8"),
    "focalnet": Family("focalnet_tiny_srf"),
    "gcvit": Family("gcvit_xxtiny"),
    "gemma4_vit": Family("gemma4_vit_167m", norm=True, arguments=_TINY),
    "ghostnet": Family("ghostnet_050"),
    "hardcorenas": Family("hardcorenas_b"),
    "hgnet": Family("hgnetv2_b0"),
    "hiera": Family(
        "hiera_tiny_224", norm=True, arguments={"embed_dim": 24, "stages": (1, 1, 1, 1)}
    ),
    "hieradet_sam2": Family("hieradet_small", norm=True, last=True),
    "hrnet": Family("hrnet_w18_small"),
    "iformer": Family("iformer_t"),
    "inception_next": Family("inception_next_atto"),
    "inception_resnet_v2": Family("inception_resnet_v2"),
    "inception_v3": Family("inception_v3"),
    "inception_v4": Family("inception_v4"),
    "lcnetv2": Family("lcnetv2_small"),
    "levit": Family("levit_128s"),
    "lowformer": Family("lowformer_b0"),
    "mambaout": Family("test_mambaout", norm=True, last=True),
    "maxxvit": Family("test_coatnet"),
    "metaformer": Family("poolformerv2_s12", norm=True),
    "mlp_mixer": Family("gmlp_ti16_224"),
    "mobilenetv3": Family("mobilenetv3_small_050"),
    "mobilenetv5": Family("mobilenetv5_base"),
    "mobilevit": Family("mobilevit_xxs"),
    "mvitv2": Family("mvitv2_tiny"),
    "naflexvit": Family("naflexvit_base_patch16_parfac_gap", prefix=4, registers=True, norm=True),
    "nasnet": Family("nasnetalarge"),
    "nest": Family("nest_tiny"),
    "nextvit": Family("nextvit_small"),
    "nfnet": Family("test_nfnet"),
    "pit": Family("pit_ti_224", refused=ALONE),
    "pnasnet": Family("pnasnet5large"),
    "pvt_v2": Family("pvt_v2_b0"),
    "qwen3_vit": Family("qwen3_vit_88m", norm=True, last=True, arguments=_TINY),
    "rdnet": Family("rdnet_tiny", norm=True),
    "regnet": Family("regnetx_002"),
    "repghost": Family("repghostnet_050"),
    "repvit": Family("repvit_m1"),
    "res2net": Family("res2next50"),
    "resnest": Family("resnest14d"),
    "resnet": Family("test_resnet"),
    "resnetv2": Family("resnetv2_18"),
    "rexnet": Family("rexnet_100"),
    "selecsls": Family("selecsls42"),
    "senet": Family("legacy_seresnet18"),
    "sequencer": Family("sequencer2d_s", last=True, arguments=_SEQUENCER),
    "shvit": Family("shvit_s1"),
    "sknet": Family("skresnet18"),
    "starnet": Family("starnet_s050"),
    "swiftformer": Family("swiftformer_xs"),
    "swin_transformer": Family("swin_tiny_patch4_window7_224", last=True, arguments=_SWIN),
    "swin_transformer_v2": Family("swinv2_tiny_window8_256", last=True, arguments=_SWIN),
    "swin_transformer_v2_cr": Family("swinv2_cr_tiny_224", arguments=_SWIN),
    "tiny_vit": Family("tiny_vit_5m_224", norm=True),
    "tnt": Family("tnt_s_legacy_patch16_224", prefix=1, arguments={"depth": 2}),
    "tresnet": Family("tresnet_m"),
    "twins": Family("twins_svt_small", arguments={"depths": (1, 1, 1, 1)}),
    "vgg": Family("vgg11"),
    "visformer": Family("visformer_tiny"),
    "vision_transformer": Family("test_vit", prefix=1),
    "vision_transformer_hybrid": Family("vit_tiny_r_s16_p8_224", prefix=1),
    "vision_transformer_relpos": Family("test_vit_relpos", norm=True),
    "vision_transformer_sam": Family("samvit_base_patch16_224", arguments=_TINY),
    "vitamin": Family("vitamin_small_224", norm=True),
    "volo": Family("volo_d1_224", prefix=1),
    "vovnet": Family("ese_vovnet19b_slim_dw"),
    "xception": Family("legacy_xception"),
    "xception_aligned": Family("xception41p"),
    "xcit": Family("xcit_nano_12_p8_224", prefix=1),
    # further members that are built otherwise
    "coat, serial": Family("coat_lite_tiny", prefix=1),
    "convnext, second": Family("convnextv2_atto", norm=True),
    "convnext, RMS norm": Family("convnext_zepto_rms", norm=True),
    "deit, distilled": Family("deit_tiny_distilled_patch16_224", prefix=2),
    "levit, convolutional": Family("levit_conv_128s"),
    "metaformer, first": Family("poolformer_s12", norm=True),
    "metaformer, caformer": Family("caformer_s18", norm=True),
    "pit, distilled": Family("pit_ti_distilled_224", refused=ALONE),
    "vision_transformer, second": Family("test_vit2", prefix=1, registers=True, norm=True),
    "vision_transformer, mean": Family("test_vit3", prefix=1, registers=True),
}
# Small enough for every run of the tests; each is of another kind of output.
QUICK = (
    "beit", "coat", "convnext", "crossvit", "davit", "efficientnet", "hiera", "mambaout", "pit",
    "resnet", "swin_transformer", "vision_transformer",
)  # fmt: skip


def photo() -> Item:
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((90, 70)).save(stream, "PNG")
    return Item(id="photo", data=stream.getvalue())


def save(family: Family, folder: Path) -> Any:
    """Write a random model with a classifier, and return it."""
    torch.manual_seed(0)
    model: Any = timm.create_model(family.model, num_classes=5, **family.arguments).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim <= 1:  # norms, biases and layer scales
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    try:
        save_for_hf(model, folder, safe_serialization=True)
    except RuntimeError:  # CoaT shares tensors, which safetensors does not write
        (folder / "model.safetensors").unlink(missing_ok=True)
        save_for_hf(model, folder, safe_serialization=False)
    return model


def expected_tokens(model: Any, family: Family, pixels: torch.Tensor) -> np.ndarray:
    """Return tokens as the plain library has them.

    Where a norm stands behind the pooling it is applied by the library itself: to the mean of an
    image all of whose cells are one token, which is that token.
    """
    with torch.inference_mode():
        features = model.forward_features(pixels[None])
        if features.ndim == 4 and not family.last:
            features = features.permute(0, 2, 3, 1)
        tokens = features.reshape(-1, features.shape[-1])
        if family.norm:
            tokens = torch.cat([_behind_pooling(model, one, features, family) for one in tokens])
    return tokens.numpy()


def _behind_pooling(
    model: Any, token: torch.Tensor, features: torch.Tensor, family: Family
) -> torch.Tensor:
    same = token.expand(features.shape).contiguous()
    if same.ndim == 4 and not family.last:
        same = same.permute(0, 3, 1, 2).contiguous()
    vector: torch.Tensor = model.forward_head(same, pre_logits=True)
    if vector.shape != (1, len(token)):  # an MLP follows the norm, which is then called alone
        return _norm_of_head(model)(token[None])
    return vector


def _norm_of_head(model: Any) -> Any:
    return model.head.norm


def differences(family: Family, folder: Path, model: Any) -> list[str]:
    """Return what of our tokens, cls, mean and grid differs from the library."""
    card = find_card(f"timm:{folder}")
    encoder = build_encoder(card)
    pixels: Any = encoder.prepare(photo())
    tokens = encoder.encode([pixels])
    expected = expected_tokens(model, family, pixels)
    found = []
    if card.layout.prefix_tokens != family.prefix:
        found.append(f"prefix_tokens {card.layout.prefix_tokens}, not {family.prefix}")
    scale = float(np.abs(expected).max())
    patches = expected[family.prefix :]
    rows, columns = card.layout.grid or (0, 0)
    cells = patches.reshape(rows, columns, -1)
    half = rows // 2 if rows % 2 == 0 else rows
    by_kind = {
        "tokens": expected,
        "mean": patches.mean(axis=0, keepdims=True),
        f"grid:{half}x1": cells.reshape(half, -1, cells.shape[2]).mean(axis=1),
    }
    if family.prefix and not family.registers:
        by_kind["cls"] = expected[:1]
    elif not _refuses_cls(encoder):
        found.append("cls is not refused")
    for name, values in by_kind.items():
        kind = FeaturePooling(name)
        assert kind.tokens_per_item(encoder.layout(), Modality.IMAGE) == len(values)
        ours = kind.reduce(tokens, encoder.layout()).values[0].numpy()
        if not np.allclose(ours, values, rtol=0, atol=TOLERANCE * scale):
            found.append(f"{name} differs by {np.abs(ours - values).max() / scale:.1e}")
    return found


def _refuses_cls(encoder: Any) -> bool:
    try:
        FeaturePooling("cls").tokens_per_item(encoder.layout(), Modality.IMAGE)
    except SpecError:
        return True
    return False


def examine(family: Family, folder: Path) -> tuple[str, str]:
    """Return `equal`, `refused`, `wrong` or `traceback`, and why."""
    model = save(family, folder)
    try:
        found = differences(family, folder, model)
    except LightalignError as error:
        reason = str(error)
        as_said = family.refused and family.refused in reason and "\n" not in reason
        return ("refused" if as_said else "wrong"), reason
    except Exception:
        return "traceback", traceback.format_exc()
    if family.refused:
        return "wrong", f"is not refused, though it has no one grid; {found}"
    return ("wrong", "; ".join(found)) if found else ("equal", "")


def main(names: Iterable[str]) -> int:
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    for name in names:
        folder = Path(tempfile.mkdtemp())
        try:
            outcome, reason = examine(FAMILIES[name], folder)
        finally:
            shutil.rmtree(folder)
        counts[outcome] += 1
        print(f"{outcome:9} {name}: {FAMILIES[name].model} {reason}", flush=True)
    print(", ".join(f"{counts[one]} {one}" for one in ("equal", "refused", "wrong", "traceback")))
    return counts["wrong"] + counts["traceback"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or FAMILIES) > 0)
