"""CogVideoX's VAE at full size with random weights in bfloat16: a clip of 49 frames in and out."""

import torch
from diffusers import AutoencoderKLCogVideoX

from gpu_parts.timing import device, timed
from resim.world_model.latents import decode_latents, encode_frames

# The full size is what diffusers builds by default.
DRY_SIZE = {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1}


def encode_decode_512x896(dry_run: bool) -> dict[str, object]:
    """Seconds and memory of encoding and decoding one clip. Raises ArithmeticError when the latents are not finite."""
    torch.manual_seed(0)
    height_px, width_px = (32, 48) if dry_run else (512, 896)
    vae = AutoencoderKLCogVideoX(**DRY_SIZE if dry_run else {})
    vae = vae.to(device(dry_run), torch.bfloat16).eval()
    frames = torch.randint(0, 256, (1, 49, 3, height_px, width_px), dtype=torch.uint8).to(vae.device)
    latents = encode_frames(vae, frames)
    if not bool(latents.isfinite().all()):
        raise ArithmeticError("the encoder's latents are not finite")
    if decode_latents(vae, latents).shape != frames.shape:
        raise ArithmeticError(f"the decoder does not return frames of {tuple(frames.shape)}")
    return {
        "encode": timed(lambda: encode_frames(vae, frames), dry_run),
        "decode": timed(lambda: decode_latents(vae, latents), dry_run),
    }
