"""Copy the clips that some drivers drove, with their cached latents, into a store of their own."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from resim.data.latents import INDEX_NAME, LATENTS_FOLDER, LatentCache, write_latents
from resim.data.store import ClipStore, StoreWriter
from resim.entry_point import run


@dataclass(frozen=True, kw_only=True)
class SelectArgs:
    """Which clips of which store."""

    # The store to copy from.
    store: Path
    # Drivers whose clips are kept.
    drivers: tuple[str, ...]
    # Folder of the new store.
    output_dir: Path
    # Replace a store that is there already.
    overwrite: bool = False


def copy_clips(store: ClipStore, kept: list[int], args: SelectArgs) -> ClipStore:
    """A new store of the clips ``kept``; their video is encoded once more."""
    source, size = store.clips[kept[0]].source, {"height_px": store.height_px, "width_px": store.width_px}
    with StoreWriter(args.output_dir, source=source, inputs=[args.store], overwrite=args.overwrite, **size) as writer:
        for index in kept:
            writer.add_copy(store.clips[index], store.read_frames(index, store.height_px, store.width_px))
    return ClipStore(args.output_dir)


def select_drivers(args: Annotated[SelectArgs, tyro.conf.arg(name="")]) -> None:
    """Write the new store; latents, where there are some, are the source's own, number for number."""
    store = ClipStore(args.store)
    kept = [index for index, clip in enumerate(store.clips) if clip.driver in args.drivers]
    if not kept:
        raise ValueError(f"{args.store} has no clip of {', '.join(args.drivers)}")
    index_file = args.store / LATENTS_FOLDER / INDEX_NAME
    copied = copy_clips(store, kept, args)
    if index_file.is_file():
        meta = json.loads(index_file.read_text())
        size = {"height_px": meta["height_px"], "width_px": meta["width_px"]}
        cache = LatentCache(store, fingerprint=meta["vae"], **size)
        posteriors = (cache.posterior(index) for index in kept)  # in the order in which the copy asks for them

        def copied_posterior(_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            mean, std = next(posteriors)
            return mean[None], std[None]

        write_latents(copied, copied_posterior, fingerprint=meta["vae"], inputs=[args.store], **size)
    print(f"{args.output_dir}: {len(kept)} of {len(store)} clips")


if __name__ == "__main__":
    run(select_drivers)
