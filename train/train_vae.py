"""Train the tiny model's VAE on the frames of a store of clips, or the decoder of a finished one.

Stops and continues where it was. It has a loop of its own beside resim.runtime.fit: it steps two optimizers on another
schedule, measures a moving average, and turns the latents at the end, none of which any other supervised run does.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from diffusers import AutoencoderKLCogVideoX
from diffusers.training_utils import EMAModel
from tqdm import tqdm

from resim.data.files import new_folder, require_free
from resim.data.latents import vae_fingerprint
from resim.data.store import ClipStore
from resim.entry_point import run
from resim.runtime.config import flatten
from resim.runtime.fit import require_one_process
from resim.runtime.log import append_row, begin_log
from resim.runtime.resume import Stateful, restore_state, save_state
from resim.world_model.latents import decode_latents, encode_frames, to_vae_input
from resim.world_model.vae import latent_moments, psnr_db, small_vae, vae_losses, with_principal_latents

# Two chunks of the causal VAE (9 + 8 frames), so that both of its modes, first and continued, are trained.
WINDOW_FRAMES = 17
# Over how much the finished VAE's channels are measured.
MOMENTS_CLIPS, MOMENTS_FRAMES = 32, 25
# What a continued run may change, because no weight depends on it; the store is compared by what it holds.
FREE_TO_CHANGE = {
    "store",
    "held_out",
    "output_dir",
    "decoder_of",
    "checkpointing_steps",
    "device",
    "latent_channels",
    "detail_exponent",
}
# What shapes the latents, which --decoder_of leaves as they are.
OF_LATENTS = ("kl_weight", "latent_channels", "detail_exponent")


@dataclass(frozen=True, kw_only=True)
class VaeArgs:
    """What to train on, and how long."""

    # Store whose frames are trained on; its size is the VAE's.
    store: Path
    # Store of held-out clips for the reported PSNR.
    held_out: Path
    # Folder for the VAE; an unfinished run in it is continued.
    output_dir: Path
    # Folder of a finished VAE whose decoder alone is trained further: its latents, and what was trained on them, stay.
    decoder_of: Path | None = None
    max_train_steps: int = 2000
    train_batch_size: int = 2
    # Of Muon, for the convolutions; AdamW, for the rest, has adam_learning_rate.
    learning_rate: float = 0.05
    adam_learning_rate: float = 2e-3
    # Weight of the KL per latent element beside L1 + L2 per pixel.
    kl_weight: float = 1e-4
    ema_decay: float = 0.99
    # Channels of the finished latents: the components that show most. It trains with four times CogVideoX's 16.
    latent_channels: int = 16
    # 0: they enter the diffusion at equal scale; 1: at the scale at which they show in the pixels.
    detail_exponent: float = 0.5
    # Also at each of these steps the state is written and the held-out PSNR is measured.
    checkpointing_steps: int = 250
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    seed: int = 0


def windows(frames_NTHWC: np.ndarray, step: int, args: VaeArgs) -> torch.Tensor:
    """The batch of a step, (B, T, C, H, W) uint8: a pure function of (frames, seed, step)."""
    rng = np.random.default_rng([args.seed, step])
    clips = rng.integers(len(frames_NTHWC), size=args.train_batch_size)
    starts = rng.integers(frames_NTHWC.shape[1] - WINDOW_FRAMES + 1, size=args.train_batch_size)
    batch = np.stack([frames_NTHWC[n, t : t + WINDOW_FRAMES] for n, t in zip(clips, starts, strict=True)])
    return torch.from_numpy(batch).permute(0, 1, 4, 2, 3)


def read_frames(folder: Path) -> np.ndarray:
    """All frames of a store (N, T, H, W, C) uint8."""
    store = ClipStore(folder)
    indices = tqdm(range(len(store)), desc=f"read {folder.name}", unit="clip")
    return np.stack([store.read_frames(i, store.height_px, store.width_px) for i in indices])


def held_out_psnr_db(vae: AutoencoderKLCogVideoX, frames_NTHWC: np.ndarray) -> float:
    """PSNR of whole clips, encoded to the posterior's mean and decoded, averaged over clips."""
    values = []
    for clip in frames_NTHWC:
        frames = torch.from_numpy(clip).permute(0, 3, 1, 2)[None].to(vae.device)
        values.append(psnr_db(decode_latents(vae, encode_frames(vae, frames)), frames))
    return float(np.mean(values))


def initial_vae(args: VaeArgs, frames_NTHWC: np.ndarray) -> AutoencoderKLCogVideoX:
    """A new VAE for these frames, or that of --decoder_of with everything but its decoder frozen.

    Raises ValueError for a flag that --decoder_of makes meaningless, or frames of another size than its VAE's.
    """
    height_px, width_px = frames_NTHWC.shape[2:4]
    if args.decoder_of is None:
        return small_vae(height_px=height_px, width_px=width_px)
    for name in OF_LATENTS:
        if getattr(args, name) != getattr(VaeArgs, name):
            raise ValueError(f"--{name}: --decoder_of leaves the latents as they are; leave it out")
    vae = AutoencoderKLCogVideoX.from_pretrained(args.decoder_of, torch_dtype=torch.float32, use_safetensors=True)
    made_for = (vae.config.sample_height, vae.config.sample_width)
    if made_for != (height_px, width_px):
        raise ValueError(
            f"{args.store}: frames of {height_px} x {width_px} pixels; {args.decoder_of} is for {made_for}"
        )
    vae.requires_grad_(False).decoder.requires_grad_(True)
    return vae


def finish(vae: AutoencoderKLCogVideoX, frames_NTHWC: np.ndarray, args: VaeArgs) -> AutoencoderKLCogVideoX:
    """The trained VAE with its latents turned to the components that show (resim.world_model.vae)."""
    clips = [
        to_vae_input(vae, torch.from_numpy(clip[:MOMENTS_FRAMES]).permute(0, 3, 1, 2)[None], torch.float32)
        for clip in frames_NTHWC[:MOMENTS_CLIPS]
    ]
    moments = latent_moments(vae, clips, torch.Generator().manual_seed(args.seed))
    return with_principal_latents(vae, moments, args.latent_channels, args.detail_exponent)


class Optimizers:
    """Muon (Jordan 2024) for the convolutions, AdamW for norms and biases, both on half a cosine after a warm-up.

    In 50 s of two cores AdamW alone came to 19.2 dB where Muon came to 20.6 (short trials, docs/log.md).
    """

    def __init__(self, vae: AutoencoderKLCogVideoX, args: VaeArgs):
        self.args = args
        learns = [p for p in vae.parameters() if p.requires_grad]
        self.kernels = [p for p in learns if p.ndim > 1]
        # torch's Muon takes matrices: views (out, in * taps) of the kernels' own memory.
        self.matrices = [kernel.detach().flatten(1).requires_grad_() for kernel in self.kernels]
        self.muon = torch.optim.Muon(self.matrices, weight_decay=0.01, momentum=0.9)
        self.adam = torch.optim.AdamW([p for p in learns if p.ndim <= 1], betas=(0.9, 0.99))

    def step(self, step: int) -> None:
        """Update the VAE from its gradients at optimizer step ``step``."""
        done = step / self.args.max_train_steps
        schedule = min(1.0, (step + 1) / 20) * (0.51 + 0.49 * float(np.cos(np.pi * done)))
        for matrix, kernel in zip(self.matrices, self.kernels, strict=True):
            assert kernel.grad is not None
            matrix.grad = kernel.grad.flatten(1)
        self.muon.param_groups[0]["lr"] = self.args.learning_rate * schedule
        self.adam.param_groups[0]["lr"] = self.args.adam_learning_rate * schedule
        self.muon.step()
        self.adam.step()


def train_vae(args: Annotated[VaeArgs, tyro.conf.arg(name="")]) -> None:
    """Train, continue, or say that it is done."""
    require_one_process()
    vae_folder = args.output_dir / "vae"
    if vae_folder.exists():
        print(f"{vae_folder} is complete")
        return
    inputs = [args.store, args.held_out, *([] if args.decoder_of is None else [args.decoder_of])]
    require_free(vae_folder, kind="model", inputs=inputs, overwrite=False)  # not only when all is trained
    args.output_dir.mkdir(parents=True, exist_ok=True)
    train_frames, held_out = read_frames(args.store), read_frames(args.held_out)[:8]
    torch.manual_seed(args.seed)
    vae = initial_vae(args, train_frames).to(args.device)
    ema = EMAModel(vae.parameters(), decay=args.ema_decay)
    optimizers = Optimizers(vae, args)
    settings = {f"--{name}": json.dumps(value) for name, value in flatten(args).items() if name not in FREE_TO_CHANGE}
    settings["content of --store"] = ClipStore(args.store).fingerprint
    if args.decoder_of is not None:
        settings["content of --decoder_of"] = vae_fingerprint(args.decoder_of)
    state: dict[str, Stateful] = {"vae": vae, "ema": ema, "muon": optimizers.muon, "adam": optimizers.adam}
    first_step = restore_state(args.output_dir, state, settings)
    begin_log(args.output_dir, first_step)

    progress = tqdm(range(first_step, args.max_train_steps), initial=first_step, total=args.max_train_steps)
    for step in progress:
        frames = to_vae_input(vae, windows(train_frames, step, args).to(args.device), torch.float32)
        with torch.autocast(args.device, torch.bfloat16):
            losses = vae_losses(vae, frames, torch.Generator().manual_seed(args.seed * 1_000_003 + step))
        loss = losses["l1"] + losses["l2"] + args.kl_weight * losses["kl"]
        if not torch.isfinite(loss):
            raise ValueError(f"step {step}: the loss is {loss}; lower --learning_rate")
        vae.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizers.step(step)
        ema.step(vae.parameters())
        progress.set_postfix({name: f"{value.item():.4f}" for name, value in losses.items()})
        if (step + 1) % args.checkpointing_steps == 0 or step + 1 == args.max_train_steps:
            measure(args, step + 1, vae, ema, held_out)
            save_state(args.output_dir, state, settings, step + 1)

    ema.copy_to(vae.parameters())
    if args.decoder_of is None:
        vae = finish(vae.cpu(), train_frames, args)
    found = {"latent_channels": vae.config.latent_channels, "psnr_db": held_out_psnr_db(vae, held_out)}
    log(args, {"step": args.max_train_steps, **found})
    with new_folder(vae_folder, kind="model", inputs=inputs, overwrite=False) as folder:
        vae.save_pretrained(folder)


def log(args: VaeArgs, row: dict[str, float]) -> None:
    """Print a measurement and keep it."""
    print(row)
    append_row(args.output_dir, row)


def measure(args: VaeArgs, step: int, vae: AutoencoderKLCogVideoX, ema: EMAModel, held_out: np.ndarray) -> None:
    """Log the held-out PSNR of the averaged weights after ``step`` steps."""
    ema.store(vae.parameters())
    ema.copy_to(vae.parameters())
    log(args, {"step": step, "psnr_db": held_out_psnr_db(vae, held_out), "time_s": time.time()})
    ema.restore(vae.parameters())


if __name__ == "__main__":
    run(train_vae)
