"""ReSimPipeline: 0.9 s of history + waypoints -> 4 s of future video, for as many rounds as there are trajectories."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDPMScheduler, DiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase, T5EncoderModel

from resim.datatypes.clip import NUM_HISTORY_FRAMES, NUM_WAYPOINTS, command_of, prompt_for
from resim.world_model.diffusion import NUM_CONTEXT_LATENTS, NUM_LATENTS, DiffusionConfig, guidance_weight
from resim.world_model.latents import decode_latents, encode_frames, spatial_factor
from resim.world_model.lora import has_lora, load_lora, save_lora, without_lora
from resim.world_model.model import WorldModel, initialise_from_scratch
from resim.world_model.text import PromptEncoder, small_text_encoder
from resim.world_model.trajectory_encoder import TrajectoryEncoder
from resim.world_model.transformer import ReSimTransformer3DModel

LORA_FOLDER = "transformer_lora"
SMALL_TEXT_WIDTH, SMALL_TEXT_LENGTH = 64, 32
Generators = torch.Generator | list[torch.Generator]
StepCallback = Callable[["ReSimPipeline", int, int, dict[str, torch.Tensor]], dict[str, torch.Tensor]]


def make_scheduler(config: DiffusionConfig) -> CogVideoXDPMScheduler:
    """CogVideoX's second-order SDE DPM solver on the training schedule."""
    return CogVideoXDPMScheduler(
        num_train_timesteps=config.num_timesteps,
        beta_start=config.beta_start,
        beta_end=config.beta_end,
        beta_schedule="scaled_linear",
        snr_shift_scale=config.snr_shift,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
        clip_sample=False,
    )


def small_world_model(
    vae: AutoencoderKLCogVideoX, *, num_layers: int, num_heads: int, height_px: int, width_px: int
) -> WorldModel:
    """An untrained small model (32 channels a head) for the latents of ``vae``."""
    factor = spatial_factor(vae)
    transformer = ReSimTransformer3DModel(
        num_attention_heads=num_heads,
        attention_head_dim=32,
        num_layers=num_layers,
        time_embed_dim=128,
        in_channels=vae.config.latent_channels,
        out_channels=vae.config.latent_channels,
        patch_size=2,
        sample_height=height_px // factor,
        sample_width=width_px // factor,
        text_embed_dim=SMALL_TEXT_WIDTH,
        max_text_seq_length=SMALL_TEXT_LENGTH,
    )
    encoder = TrajectoryEncoder(
        text_embed_dim=SMALL_TEXT_WIDTH,
        width=128,
        num_layers=2,
        num_heads=4,
        head_dim=32,
        mlp_dim=256,
        video_width=32 * num_heads,
    )
    model = WorldModel(transformer, encoder)
    initialise_from_scratch(model)
    return model


def small_pipeline(
    vae: AutoencoderKLCogVideoX, *, num_layers: int, num_heads: int, height_px: int, width_px: int, seed: int = 0
) -> "ReSimPipeline":
    """:func:`small_world_model` around a trained VAE, with all that sampling needs; ``seed`` draws its weights."""
    torch.manual_seed(seed)
    model = small_world_model(vae, num_layers=num_layers, num_heads=num_heads, height_px=height_px, width_px=width_px)
    tokenizer, text_encoder = small_text_encoder(SMALL_TEXT_WIDTH, SMALL_TEXT_LENGTH, seed=0)
    return ReSimPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae,
        transformer=model.transformer,
        trajectory_encoder=model.trajectory_encoder,
        scheduler=make_scheduler(DiffusionConfig()),
        guidance_scale=2.0,  # a small model needs the push from the first step on (measured, docs/log.md)
        guidance_power=0.0,
    )


@dataclass
class ReSimOutput(BaseOutput):
    """``frames``: uint8 (B, 9 + 40 R, H, W, 3), or latents (B, 3 + 10 R, C, h, w) for ``output_type="latent"``.

    R is the number of rounds. The first 9 frames (3 latents) are the history that was given.
    """

    frames: np.ndarray | torch.Tensor


def _batch_size(num_histories: int, waypoints: np.ndarray | list[np.ndarray | None] | None) -> int:
    """One history serves as many paths as the first (B, 8, 3) of ``waypoints`` holds; several have one path each."""
    rounds = waypoints if isinstance(waypoints, list) else [waypoints]
    batches = [len(path) for path in rounds if path is not None and np.ndim(path) == 3]
    return batches[0] if num_histories == 1 and batches else num_histories


class ReSimPipeline(DiffusionPipeline):
    """Tokenizer, T5, VAE, transformer, trajectory encoder and scheduler as one diffusers pipeline."""

    model_cpu_offload_seq = "text_encoder->trajectory_encoder->transformer->vae"

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        text_encoder: T5EncoderModel,
        vae: AutoencoderKLCogVideoX,
        transformer: ReSimTransformer3DModel,
        trajectory_encoder: TrajectoryEncoder,
        scheduler: CogVideoXDPMScheduler,
        guidance_scale: float = 6.0,
        guidance_power: float = 5.0,
    ):
        """``guidance_scale`` and ``guidance_power`` are s and p of ``guidance_weight``, kept with the checkpoint."""
        super().__init__()
        self._world_model: WorldModel | None = None
        self._prompt_encoder: PromptEncoder | None = None
        self.register_to_config(guidance_scale=guidance_scale, guidance_power=guidance_power)
        self.register_modules(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=vae,
            transformer=transformer,
            trajectory_encoder=trajectory_encoder,
            scheduler=scheduler,
        )

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, dtype: torch.dtype = torch.float32) -> "ReSimPipeline":
        """Load a checkpoint folder, with its LoRA adapter if it has one. Raises FileNotFoundError naming the file."""
        folder = Path(folder)
        if not (folder / "model_index.json").is_file():
            raise FileNotFoundError(
                f"{folder / 'model_index.json'} does not exist: give the folder of a ReSim checkpoint"
            )
        # Resolved, so that a relative folder cannot be read as a name on the hub.
        pipeline = super().from_pretrained(
            str(folder.resolve()), dtype=dtype, use_safetensors=True, local_files_only=True
        )
        if (folder / LORA_FOLDER).is_dir():
            load_lora(pipeline.transformer, folder / LORA_FOLDER)
        return pipeline

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that ``from_pretrained`` reads; the LoRA adapter goes beside the transformer it adapts."""
        folder = Path(folder)
        if not has_lora(self.transformer):
            return super().save_pretrained(folder, safe_serialization=True)
        adapted = self.transformer
        save_lora(adapted, folder / LORA_FOLDER)
        try:
            self.register_modules(transformer=without_lora(adapted))
            super().save_pretrained(folder, safe_serialization=True)
        finally:
            self.register_modules(transformer=adapted)

    @property
    def world_model(self) -> WorldModel:
        """Transformer and trajectory encoder as one module; the same object until one of the two is replaced."""
        kept, parts = self._world_model, (self.transformer, self.trajectory_encoder)
        if kept is None or (kept.transformer, kept.trajectory_encoder) != parts:
            kept = self._world_model = WorldModel(*parts)
        return kept

    @property
    def prompt_encoder(self) -> PromptEncoder:
        """The memoised text encoder over this pipeline's T5; the same object until what it is made of is replaced."""
        kept = self._prompt_encoder
        parts = (self.tokenizer, self.text_encoder, self.transformer.config.max_text_seq_length)
        if kept is None or (kept.tokenizer, kept.text_encoder, kept.max_length) != parts:
            kept = self._prompt_encoder = PromptEncoder(*parts)
        return kept

    @torch.no_grad()
    def __call__(
        self,
        history: np.ndarray | torch.Tensor,
        waypoints: np.ndarray | list[np.ndarray | None] | None = None,
        *,
        prompt: str | list[str] | None = None,
        num_rounds: int | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float | None = None,
        generator: Generators | None = None,
        output_type: str = "np",
        callback_on_step_end: StepCallback | None = None,
    ) -> ReSimOutput:
        """Imagine the future.

        Args:
            history: uint8 (9, H, W, 3) or (B, 9, H, W, 3), RGB at 10 Hz; the last frame is t = 0. One history serves
                all paths of a batch and is encoded once.
            waypoints: (8, 3) or (B, 8, 3) [x_m, y_m, heading_rad] at 0.5 .. 4.0 s in the ego frame at t = 0; None for
                the action-free mode; a list for a rollout, one entry per round, each in the ego frame where its round
                begins.
            prompt: replaces the default, which is the scene prompt with the command sentence of the waypoints.
            num_rounds: only with ``waypoints=None``: how many action-free rounds (default 1).
            num_inference_steps: must divide the 1000 training steps.
            guidance_scale: s of w(i) = 1 + s (1 - cos(pi (i/n)^p)) / 2; None is the checkpoint's own, as p always is;
                0 switches guidance off.
            generator: one generator, or one per batch entry; equal seeds give equal noise.
            output_type: 'np' or 'pt' for uint8 frames, 'latent' for latents.
            callback_on_step_end: called as (pipeline, step, timestep, {'latents'}); may return replaced latents.

        Raises ValueError naming the argument that has the wrong shape or value.
        """
        history_BTCHW = self._check_history(history)
        batch = _batch_size(len(history_BTCHW), waypoints)
        rounds = self._check_waypoints(waypoints, batch, num_rounds)
        self._check_options(num_inference_steps, output_type)
        scale: float = self.config.guidance_scale if guidance_scale is None else guidance_scale

        context = encode_frames(self.vae, history_BTCHW.to(self._execution_device)).expand(batch, -1, -1, -1, -1)
        latents, decoded = [context], []
        with self.progress_bar(total=len(rounds) * num_inference_steps) as progress:
            for round_waypoints in rounds:
                embeds = self._encode_prompts(prompt, round_waypoints, batch)
                future = self._denoise(
                    context, embeds, round_waypoints, num_inference_steps, scale, generator,
                    callback_on_step_end, progress,
                )  # fmt: skip
                latents.append(future)
                if output_type != "latent":
                    frames = decode_latents(self.vae, torch.cat([context, future], dim=1))
                    decoded.append(frames[:, NUM_HISTORY_FRAMES:].cpu())
                context = future[:, -NUM_CONTEXT_LATENTS:]
        self.maybe_free_model_hooks()
        if output_type == "latent":
            return ReSimOutput(frames=torch.cat(latents, dim=1))
        history_BTCHW = history_BTCHW.expand(batch, -1, -1, -1, -1)
        frames = torch.cat([history_BTCHW.cpu(), *decoded], dim=1).permute(0, 1, 3, 4, 2).contiguous()
        return ReSimOutput(frames=frames if output_type == "pt" else frames.numpy())

    def _denoise(
        self,
        context: torch.Tensor,
        prompt_embeds: torch.Tensor,
        waypoints: np.ndarray | None,
        num_steps: int,
        guidance_scale: float,
        generator: Generators | None,
        callback: StepCallback | None,
        progress: tqdm,
    ) -> torch.Tensor:
        """Denoise one round; returns the future latents (B, 10, C, h, w)."""
        batch, device = len(context), context.device
        has_waypoints = torch.full((batch,), waypoints is not None, device=device)
        paths = np.zeros((batch, NUM_WAYPOINTS, 3)) if waypoints is None else waypoints
        inputs = {
            "context_BFCHW": context,
            "prompt_embeds_BLD": prompt_embeds,
            "waypoints_B83": torch.as_tensor(paths, dtype=torch.float32, device=device),
            "has_waypoints_B": has_waypoints,
            "context_timestep_B": torch.zeros(batch, dtype=torch.int64, device=device),
        }
        if guidance_scale > 0:  # second half of the batch: no text, no trajectory
            inputs = {name: torch.cat([value, value]) for name, value in inputs.items()}
            inputs["prompt_embeds_BLD"][batch:] = self.prompt_encoder([""] * batch).to(device)
            inputs["has_waypoints_B"][batch:] = False

        shape = (batch, NUM_LATENTS - NUM_CONTEXT_LATENTS, *context.shape[2:])
        x = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        self.scheduler.set_timesteps(num_steps, device=device)
        previous, timesteps = None, self.scheduler.timesteps
        for i, t in enumerate(timesteps):
            noisy = torch.cat([x, x]) if guidance_scale > 0 else x
            v = self.world_model(noisy_BFCHW=noisy, timestep_B=t.expand(len(noisy)), **inputs).float()
            if guidance_scale > 0:
                conditional, unconditional = v.chunk(2)
                weight = guidance_weight(i, num_steps, guidance_scale, self.config.guidance_power)
                v = unconditional + weight * (conditional - unconditional)
            before = timesteps[i - 1] if i > 0 else None
            x, previous = self.scheduler.step(v, previous, t, before, x, generator=generator, return_dict=False)
            x = x.float()
            if callback is not None:
                x = callback(self, i, int(t), {"latents": x}).get("latents", x)
            progress.update()
        return x.to(context.dtype)

    def _encode_prompts(self, prompt: str | list[str] | None, waypoints: np.ndarray | None, batch: int) -> torch.Tensor:
        if isinstance(prompt, str):
            prompts = [prompt] * batch
        elif prompt is not None:
            prompts = prompt
        elif waypoints is None:
            prompts = [prompt_for(None)] * batch
        else:
            prompts = [prompt_for(command_of(path)) for path in waypoints]
        if len(prompts) != batch:
            raise ValueError(f"prompt: {len(prompts)} given for a batch of {batch}")
        return self.prompt_encoder(prompts).to(self._execution_device)

    def _check_history(self, history: np.ndarray | torch.Tensor) -> torch.Tensor:
        history = torch.as_tensor(history)
        history = history[None] if history.ndim == 4 else history
        if history.ndim != 5 or history.shape[1] != NUM_HISTORY_FRAMES or history.shape[-1] != 3:
            raise ValueError(f"history must be (B, 9, H, W, 3), got {tuple(history.shape)}")
        if history.dtype != torch.uint8:
            raise ValueError(f"history must be uint8 RGB in 0..255, got {history.dtype}")
        factor = spatial_factor(self.vae) * self.transformer.config.patch_size
        if history.shape[2] % factor or history.shape[3] % factor:
            raise ValueError(
                f"history's height and width must be multiples of {factor}, got {tuple(history.shape[2:4])}"
            )
        return history.permute(0, 1, 4, 2, 3)

    @staticmethod
    def _check_waypoints(
        waypoints: np.ndarray | list[np.ndarray | None] | None, batch: int, num_rounds: int | None
    ) -> list[np.ndarray | None]:
        """One (B, 8, 3) array or None per round."""
        if waypoints is None:
            return [None] * (1 if num_rounds is None else num_rounds)
        if num_rounds is not None:
            raise ValueError("num_rounds goes with waypoints=None; otherwise give a list with one trajectory per round")
        rounds: list[np.ndarray | None] = []
        for entry in waypoints if isinstance(waypoints, list) else [waypoints]:
            if entry is None:
                rounds.append(None)
                continue
            path = np.asarray(entry, dtype=np.float32)
            path = np.repeat(path[None], batch, axis=0) if path.ndim == 2 else path
            if path.shape != (batch, NUM_WAYPOINTS, 3):
                raise ValueError(f"waypoints must be (8, 3) or ({batch}, 8, 3), got {np.shape(entry)}")
            if not np.isfinite(path).all():
                raise ValueError("waypoints hold NaN or infinity")
            rounds.append(path)
        return rounds

    def _check_options(self, num_inference_steps: int, output_type: str) -> None:
        total = self.scheduler.config.num_train_timesteps
        if num_inference_steps < 1 or total % num_inference_steps:
            raise ValueError(
                f"num_inference_steps must divide {total} (4, 5, 8, 10, 20, 25, 50 ..), got {num_inference_steps}"
            )
        if output_type not in ("np", "pt", "latent"):
            raise ValueError(f"output_type must be 'np', 'pt' or 'latent', got {output_type!r}")
