"""The models that training steps are measured with, ours and open_clip's, and their batches."""

from typing import Any, NamedTuple


class Size(NamedTuple):
    """Of both models; the text tower has `text_width // 64` heads."""

    tower: str
    image_px: int
    patch_px: int
    width: int
    layers: int
    text_width: int
    text_layers: int
    tokens: int
    vocabulary: int
    embed: int
    batch: int
    microbatch: int


SIZES = {
    # A quarter of ViT-B/32's width and half of its depth, for a CPU
    "small": Size("vit", 96, 16, 192, 6, 128, 4, 32, 8192, 128, 64, 16),
    # open_clip's ViT-B-32.json and ViT-B-16.json
    "b32": Size("vit", 224, 32, 768, 12, 512, 12, 77, 49_408, 512, 1024, 256),
    "b16": Size("vit", 224, 16, 768, 12, 512, 12, 77, 49_408, 512, 512, 128),
    # Recipe `align` in the sizes of its ablation, with BERT-Base; open_clip has none like it
    "b5": Size("efficientnet-b5", 289, 16, 0, 0, 768, 12, 64, 100_000, 640, 256, 128),
}


def our_model(size: Size, **changes: Any) -> Any:
    """Build our model; without dropout, as open_clip's has none."""
    from train.config import ModelConfig
    from train.dual_encoder import DualEncoder

    transformer = {
        "patch_px": size.patch_px,
        "vision_width": size.width,
        "vision_layers": size.layers,
        "vision_heads": size.width // 64,
        "drop_path": 0.0,
        "dropout": 0.0,
    }
    config = ModelConfig(
        image_tower=size.tower,
        image_px=size.image_px,
        text_width=size.text_width,
        text_layers=size.text_layers,
        text_heads=size.text_width // 64,
        max_tokens=size.tokens,
        vocabulary=size.vocabulary,
        embed_width=size.embed,
        **(transformer if size.tower == "vit" else {}),
        **changes,
    )
    return DualEncoder(config).train()


def their_model(size: Size) -> Any:
    """Build open_clip's, of the same size."""
    from open_clip import CLIP
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(
        layers=size.layers, width=size.width, patch_size=size.patch_px, image_size=size.image_px
    )
    text = CLIPTextCfg(
        context_length=size.tokens,
        vocab_size=size.vocabulary,
        width=size.text_width,
        heads=size.text_width // 64,
        layers=size.text_layers,
    )
    return CLIP(size.embed, vision, text).train()


def random_batch(size: Size, device: Any) -> Any:
    """Return random pairs; texts fill all tokens, so that both towers read as much."""
    import torch

    from train.batch import Batch

    tokens = torch.randint(1, size.vocabulary, (size.batch, size.tokens), device=device)
    shape = (size.batch, 3, size.image_px, size.image_px)
    return Batch(
        images=torch.randint(0, 256, shape, device=device, dtype=torch.uint8),
        tokens=tokens,
        mask=torch.ones_like(tokens, dtype=torch.bool),
        texts=torch.arange(size.batch, device=device),
        keys=[f"{place:09}" for place in range(size.batch)],
    )


def training_flops(size: Size) -> dict[str, float]:
    """Return the operations of training on one image and one text: three forward passes."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    model, pair = our_model(size).eval(), random_batch(size._replace(batch=1), torch.device("cpu"))
    counted = {}
    for name, given in (("image", (pair.images,)), ("text", (pair.tokens, pair.mask))):
        # The counter knows all kernels of attention but the CPU's own
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter, sdpa_kernel(SDPBackend.MATH):
            getattr(model, f"encode_{name}")(*given)
        counted[name] = 3.0 * counter.get_total_flops()
    return counted
