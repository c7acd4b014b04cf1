"""Features of a frozen eye on disk: every clip goes through DINOv2 once, however long the head is trained."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from resim.data.files import require_plain_name, write_aside
from resim.judges.video2reward import Video2Reward

EYE_FILE = "eye.json"


def eye_fingerprint(model: Video2Reward) -> dict[str, object]:
    """What features depend on: the ViT, what it sees, and its weights."""
    digest = hashlib.sha256()
    for name, value in sorted(model.eye.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().float().numpy().tobytes())
    config = model.config
    return {
        "vit": config.vit, "height_px": config.height_px, "width_px": config.width_px, "sha256": digest.hexdigest()
    }  # fmt: skip


class FeatureCache:
    """A folder with a safetensors file per clip, float16 (9, N, D), written when the clip is first asked for.

    Clip ids must differ over all stores in use. Raises ValueError where the folder belongs to another eye.
    """

    def __init__(self, folder: Path, model: Video2Reward) -> None:
        self.folder, self.model = folder, model
        folder.mkdir(parents=True, exist_ok=True)
        found, eye = eye_fingerprint(model), folder / EYE_FILE
        if eye.is_file() and json.loads(eye.read_text()) != found:
            raise ValueError(f"{folder} holds the features of another eye ({eye}): give another folder or remove it")
        write_aside(eye, json.dumps(found))

    @torch.no_grad()
    def __call__(self, frames_BTCHW: torch.Tensor, clip_id: Sequence[str]) -> torch.Tensor:
        """Features (B, 9, N, D) of clips, from disk or computed now. Raises ValueError for an id that is no name."""
        rows = []
        for frames, name in zip(frames_BTCHW, clip_id, strict=True):
            require_plain_name(name, what=f"{self.folder}: clip_id")
            file = self.folder / f"{name}.safetensors"
            if not file.is_file():
                features = self.model.features(frames[None].to(self.model.device))[0].half().cpu().contiguous()
                partial = file.with_suffix(".partial")
                save_file({"features": features}, partial)
                partial.rename(file)
            rows.append(load_file(file)["features"])
        return torch.stack(rows)
