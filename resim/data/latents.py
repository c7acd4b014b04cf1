"""Cached VAE latents of a store: posterior mean and standard deviation per clip, bound to the VAE that made them.

``latents/<shard>.safetensors`` holds ``mean`` and ``std`` (clips of that shard, F, C, h, w) in bfloat16;
``latents/index.json`` the VAE's fingerprint, the frame size, and the fingerprint of the store.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from resim.data.files import new_folder, sha256_of
from resim.data.store import ClipStore

LATENTS_FOLDER = "latents"
INDEX_NAME = "index.json"
# uint8 frames (B, T, H, W, 3) -> posterior mean and standard deviation, each (B, F, C, h, w), as the diffusion sees
# them
Encode = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def vae_fingerprint(folder: Path | str) -> str:
    """sha256 over a VAE's config and weights: which latents belong to it. Raises FileNotFoundError without weights."""
    folder = Path(folder)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights or not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder}: no VAE here (config.json and *.safetensors)")
    config = json.loads((folder / "config.json").read_text())
    settings = {key: value for key, value in config.items() if not key.startswith("_")}  # not the library's version
    hashes = [json.dumps(settings, sort_keys=True), *(sha256_of(file) for file in weights)]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def write_latents(
    store: ClipStore,
    encode: Encode,
    *,
    fingerprint: str,
    height_px: int,
    width_px: int,
    inputs: Iterable[Path],
    batch_size: int = 1,
    overwrite: bool = False,
) -> Path:
    """Encode every clip of ``store`` at (height_px, width_px) into its ``latents/`` folder, whole or not at all.

    ``encode`` gets up to ``batch_size`` clips at once; ``inputs`` is what it was made from, such as the VAE. Raises
    FileExistsError where there are latents and not ``overwrite``, and as ``files.new_folder``; ValueError for a batch
    without clips.
    """
    if batch_size < 1:
        raise ValueError(f"--batch_size {batch_size}: at least 1")
    final = store.path / LATENTS_FOLDER
    shards = [store.path / name for name in store.shards]
    meta = {"vae": fingerprint, "height_px": height_px, "width_px": width_px}
    with (
        new_folder(final, kind="latents", inputs=(*inputs, *shards), overwrite=overwrite) as folder,
        tqdm(total=len(store), desc=f"encode {store.path.name}", unit="clip") as progress,
    ):
        for shard, indices in store.clips_of.items():
            posteriors = []
            for start in range(0, len(indices), batch_size):
                batch = indices[start : start + batch_size]
                frames = [torch.from_numpy(store.read_frames(index, height_px, width_px)) for index in batch]
                posteriors.append(encode(torch.stack(frames)))
                progress.update(len(batch))
            mean, std = (torch.cat(part).to("cpu", torch.bfloat16) for part in zip(*posteriors, strict=True))
            save_file({"mean": mean, "std": std}, folder / f"{Path(shard).stem}.safetensors")
        (folder / INDEX_NAME).write_text(json.dumps(meta | {"store": store.fingerprint}, indent=1))
    return final


class LatentCache:
    """The cached latents of a store, opened for reading.

    Raises FileNotFoundError where there are none, ValueError where they were made by another VAE, from other clips, or
    at another frame size.
    """

    def __init__(self, store: ClipStore, *, fingerprint: str, height_px: int, width_px: int) -> None:
        self._folder = store.path / LATENTS_FOLDER
        if not (self._folder / INDEX_NAME).is_file():
            raise FileNotFoundError(f"{store.path}: no cached latents; make them with data_prep/cache_latents.py")
        meta: dict[str, Any] = json.loads((self._folder / INDEX_NAME).read_text())
        wanted = {"vae": fingerprint, "store": store.fingerprint, "height_px": height_px, "width_px": width_px}
        for key, value in wanted.items():
            if meta[key] != value:
                raise ValueError(
                    f"{self._folder}: stale, made with {key} {meta[key]}, needed {value}; "
                    "make them again with data_prep/cache_latents.py --overwrite"
                )
        self._places = {
            index: (Path(shard).stem, place)
            for shard, indices in store.clips_of.items()
            for place, index in enumerate(indices)
        }

    def read(self, index: int, seed: int) -> torch.Tensor:
        """Latents (F, C, h, w) float32 of clip ``index``: a sample of the posterior.

        A pure function of (index, seed). Only this clip's bytes are read.
        """
        mean, std = (part.float() for part in self.posterior(index))
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed))
        return mean + std * noise

    def posterior(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation, each (F, C, h, w), of clip ``index`` as they are stored."""
        shard, place = self._places[index]
        with safe_open(self._folder / f"{shard}.safetensors", framework="pt") as file:
            return file.get_slice("mean")[place], file.get_slice("std")[place]
