"""Models of `transformers` with random weights, as small as they can be, stored as users have them.

Three families: BLIP begins its caption with the prompt, and reads its image by cross-attention;
LLaVA chats; Idefics 3 chats, with as many tokens for an image as its shape wants.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
CHAT = """{% for m in messages %}USER : {% for c in m['content'] -%}
{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }} {% endif %}
{%- endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT :{% endif %}"""

_WORDS = (*LETTERS, "USER", "ASSISTANT", ":", "Describe", "this", "image", "in", "one", "sentence.")
_LAYER: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
_IDS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def write_blip(folder: Path) -> None:
    """Write a BLIP captioner."""
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *LETTERS, "picture", "of"]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words))
    text = _LAYER | {
        "vocab_size": len(words),
        "encoder_hidden_size": 16,
        "max_position_embeddings": 64,
        "bos_token_id": 5,
        "sep_token_id": 3,
        "eos_token_id": 3,
        "pad_token_id": 0,
    }
    vision = _LAYER | {"image_size": 16, "patch_size": 8}
    config = transformers.BlipConfig(text_config=text, vision_config=vision, projection_dim=8)
    transformers.BlipForConditionalGeneration(config).save_pretrained(folder)
    images = transformers.BlipImageProcessorPil(size={"height": 16, "width": 16})
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"), bos_token="[DEC]")
    transformers.BlipProcessor(images, tokenizer).save_pretrained(folder)


def write_llava(folder: Path, template: str = CHAT) -> None:
    """Write a LLaVA."""
    torch.manual_seed(0)
    tokenizer = _tokenizer(["<image>"])
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**_LAYER, image_size=16, patch_size=8),
        text_config=transformers.LlamaConfig(**_LAYER, **_IDS, vocab_size=len(tokenizer)),
        image_token_index=4,
        image_seq_length=4,
        vision_feature_layer=-1,
    )
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor = transformers.LlavaProcessor(
        transformers.CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=16),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    processor.save_pretrained(folder)


def write_idefics(folder: Path) -> None:
    """Write an Idefics 3, which cuts images into tiles."""
    torch.manual_seed(0)
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    own = ["<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>"]
    tokenizer = _tokenizer(own + tiles)
    config = transformers.Idefics3Config(
        vision_config=_LAYER | {"image_size": 16, "patch_size": 4},
        text_config={"model_type": "llama", **_LAYER, **_IDS, "vocab_size": len(tokenizer)},
        image_token_id=4,
        scale_factor=2,
        pad_token_id=0,
    )
    transformers.Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    images = transformers.Idefics3ImageProcessorPil(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 16}
    )
    processor = transformers.Idefics3Processor(
        images, tokenizer, image_seq_len=4, chat_template=CHAT
    )
    processor.save_pretrained(folder)


def _tokenizer(own: Sequence[str]) -> Any:
    """Return a tokenizer of words between white space, some special."""
    words = ["<pad>", "<bos>", "<eos>", "<unk>", *own, *_WORDS]
    ids = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=list(own),
    )
