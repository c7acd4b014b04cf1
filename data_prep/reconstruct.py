"""Copy a store with its frames as the VAE gives them back: how true video looks at the world model's best.

Models that judge are trained on both, so that they read what a drive shows and not how sharply it is shown.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from diffusers import AutoencoderKLCogVideoX
from tqdm import tqdm

from resim.data.latents import LatentCache, vae_fingerprint
from resim.data.store import ClipStore, StoreWriter
from resim.entry_point import run
from resim.world_model.latents import decode_latents


@dataclass(frozen=True, kw_only=True)
class ReconstructArgs:
    """Which store, through which VAE."""

    # The store to copy, with its cached latents (data_prep/cache_latents.py).
    store: Path
    # Folder of the VAE (config.json and safetensors): vae/ of a checkpoint.
    vae: Path
    # Folder of the new store.
    output_dir: Path
    # Where the VAE runs, and in which precision.
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    dtype: str = "float32"
    # Replace a store that is there already.
    overwrite: bool = False


def reconstruct(args: Annotated[ReconstructArgs, tyro.conf.arg(name="")]) -> None:
    """Write the copy: every clip's mean latents decoded, with the same labels."""
    store = ClipStore(args.store)
    vae = AutoencoderKLCogVideoX.from_pretrained(args.vae, torch_dtype=getattr(torch, args.dtype)).to(args.device)
    vae.requires_grad_(False).eval()
    size = {"height_px": store.height_px, "width_px": store.width_px}
    cache = LatentCache(store, fingerprint=vae_fingerprint(args.vae), **size)
    with StoreWriter(args.output_dir, source=store.clips[0].source, overwrite=args.overwrite, **size) as writer:
        for index, clip in enumerate(tqdm(store.clips, desc=f"reconstruct {store.path.name}", unit="clip")):
            mean_FCHW, _ = cache.posterior(index)
            frames_TCHW = decode_latents(vae, mean_FCHW[None].to(args.device))[0]
            writer.add_copy(clip, frames_TCHW.permute(0, 2, 3, 1).cpu().numpy())


if __name__ == "__main__":
    run(reconstruct)
