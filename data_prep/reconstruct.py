"""Copy a store with its frames as the VAE gives them back: how true video looks at the world model's best.

Models that judge are trained on both, so that they read what a drive shows and not how sharply it is shown.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from diffusers import AutoencoderKLCogVideoX
from tqdm import trange

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
    # Clips decoded at once. On a CPU two go three times as fast as one by one.
    batch_size: int = 1
    # Replace a store that is there already.
    overwrite: bool = False


def reconstruct(args: Annotated[ReconstructArgs, tyro.conf.arg(name="")]) -> None:
    """Write the copy: every clip's mean latents decoded, with the same labels."""
    store = ClipStore(args.store)
    vae = AutoencoderKLCogVideoX.from_pretrained(args.vae, torch_dtype=getattr(torch, args.dtype)).to(args.device)
    vae.requires_grad_(False).eval()
    size = {"height_px": store.height_px, "width_px": store.width_px}
    cache = LatentCache(store, fingerprint=vae_fingerprint(args.vae), **size)
    source, inputs = store.clips[0].source, [args.store, args.vae]
    with StoreWriter(args.output_dir, source=source, inputs=inputs, overwrite=args.overwrite, **size) as writer:
        for start in trange(0, len(store), args.batch_size, desc=f"reconstruct {store.path.name}", unit="batch"):
            batch = range(start, min(start + args.batch_size, len(store)))
            mean_BFCHW = torch.stack([cache.posterior(index)[0] for index in batch])
            frames_BTCHW = decode_latents(vae, mean_BFCHW.to(args.device))
            for index, frames_THWC in zip(batch, frames_BTCHW.permute(0, 1, 3, 4, 2).cpu().numpy(), strict=True):
                writer.add_copy(store.clips[index], frames_THWC)


if __name__ == "__main__":
    run(reconstruct)
