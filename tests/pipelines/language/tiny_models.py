"""Language and caption models of a few thousand weights, saved as transformers saves them."""

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

END, UNKNOWN = "<end>", "<unknown>"
# after which word which one comes
NEXT = {"Answer:": "red", "red": END, "assistant:": "blue", "blue": END, "endless:": "endless:"}
WORDS = [END, UNKNOWN, *sorted({*NEXT, *NEXT.values(), "Question:"} - {END})]


def write_tokenizer(folder: Path, *, chat_template: str | None = None) -> None:
    """Write a tokenizer of whole words."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, unk_token=UNKNOWN
    )
    if chat_template is not None:
        fast.chat_template = chat_template
    fast.save_pretrained(folder)


def write_language_model(
    folder: Path, *, chat_template: str | None = None, positions: int = 256
) -> Path:
    """Write a causal model that says after each word the one that `NEXT` has."""
    size = len(WORDS)
    config = transformers.GPT2Config(
        vocab_size=size,
        n_embd=size,
        n_head=1,
        n_layer=1,
        n_positions=positions,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
        model.transformer.ln_f.weight.fill_(1.0)
        model.transformer.wte.weight.copy_(torch.eye(size))
        for word, following in NEXT.items():
            model.lm_head.weight[WORDS.index(following), WORDS.index(word)] = 1.0
    model.save_pretrained(folder)
    write_tokenizer(folder, chat_template=chat_template)
    return folder


def write_caption_model(folder: Path) -> Path:
    """Write a captioner that says `red` of every image."""
    size = len(WORDS)
    torch.manual_seed(0)
    encoder = transformers.ViTConfig(
        hidden_size=size + size % 2,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        image_size=32,
        patch_size=16,
    )
    decoder = transformers.GPT2Config(
        vocab_size=size,
        n_embd=size + size % 2,
        n_head=1,
        n_layer=1,
        n_positions=64,
        is_decoder=True,
        add_cross_attention=True,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id = WORDS.index("Answer:")
    config.eos_token_id = config.pad_token_id = 0
    model = transformers.VisionEncoderDecoderModel(config)
    model.generation_config.decoder_start_token_id = WORDS.index("Answer:")
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = 0
    with torch.no_grad():
        for weights in model.decoder.parameters():
            weights.zero_()
        model.decoder.transformer.ln_f.weight.fill_(1.0)
        model.decoder.transformer.wte.weight[:, :size].copy_(torch.eye(size))
        for word, following in NEXT.items():
            model.decoder.lm_head.weight[WORDS.index(following), WORDS.index(word)] = 1.0
    model.save_pretrained(folder)
    write_tokenizer(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
