"""What a training run is: frozen, keyword-only dataclasses. Presets of them are in presets.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Suppress

from resim.data.mixture import COMMAND_DROPOUT, HEADING_DROPOUT, TEXT_DROPOUT, MixtureEntry
from resim.runtime.optim import OptimConfig
from resim.world_model.diffusion import DiffusionConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which clips, at which size, and what is dropped from their conditioning."""

    # Folder that the stores of the preset lie in.
    data_root: Path
    # Stores to train on, relative to data_root, with their weights and trajectory dropout.
    entries: Suppress[tuple[MixtureEntry, ...]]
    # Held-out stores for the validation loss and videos.
    validation_entries: Suppress[tuple[MixtureEntry, ...]]
    # Size of the frames in pixels.
    height_px: int
    # Size of the frames in pixels.
    width_px: int
    # Read cached latents from the stores instead of encoding frames with the frozen VAE.
    use_latents: bool = False
    # Probability that a clip loses its whole prompt.
    text_dropout: float = TEXT_DROPOUT
    # Probability that a clip loses the command sentence of its prompt.
    command_dropout: float = COMMAND_DROPOUT
    # Probability that the heading column of a clip's waypoints is 0.
    heading_dropout: float = HEADING_DROPOUT
    # Processes that read clips; 0 reads in the training process.
    dataloader_num_workers: int = 4


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """What is measured on held-out clips, at step 0, every ``validation_steps`` and at the end."""

    # Steps between validations; there is one before the first step and one at the end in any case.
    validation_steps: int
    # Clips of the validation loss; the noise and the timesteps are fixed.
    num_validation_clips: int = 16
    # Videos (history | truth | generated) written each time; 0 writes none.
    num_validation_videos: int = 2
    # Denoising steps of the videos.
    num_inference_steps: int = 50
    # Guidance of the videos.
    guidance_scale: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run. The architecture is not here: it is that of the folder named by ``init_from``."""

    # Name of the preset that this started from.
    preset: Suppress[str]
    # Where the run writes; must not exist yet, unless --overwrite or --resume_from_checkpoint is given.
    output_dir: Path
    # Folder of the model to start from: ReSim's, of an earlier stage, or CogVideoX-2b's.
    init_from: Path
    # Continue this run: a checkpoint folder, or 'latest' for the newest one in output_dir.
    resume_from_checkpoint: str | None = None
    # Delete output_dir first.
    overwrite: bool = False
    # Decides the order of the data, what is dropped, the noise, and new weights.
    seed: int = 0

    # What learns: the transformer alone; LoRA + trajectory encoder with the transformer frozen; or all of them.
    trains: Literal["transformer", "lora", "everything"]
    # Rank of the LoRA that this stage adds when the model has none; its scale is lora_alpha / lora_rank.
    lora_rank: int = 128
    # Numerator of the LoRA's scale.
    lora_alpha: float = 1.0

    # Optimizer steps.
    max_train_steps: int
    # Clips per optimizer step over all processes. The accumulation steps follow from it.
    global_batch_size: int
    # Clips per process and forward pass.
    train_batch_size: int = 1
    # 'bf16' computes in bfloat16 on float32 weights.
    mixed_precision: Literal["no", "bf16"] = "bf16"
    # Recompute activations in the backward pass instead of keeping them: slower, far less memory.
    gradient_checkpointing: bool = True
    # Decay of the average of weights that is validated and published.
    ema_decay: float = 0.9999

    # Steps between checkpoints; the last step writes one in any case.
    checkpointing_steps: int = 500
    # Keep only the newest so many checkpoints; None keeps all.
    checkpoints_total_limit: int | None = None
    # Steps averaged in one row of the log.
    logging_steps: int = 10

    data: DataConfig
    optim: OptimConfig
    diffusion: DiffusionConfig = DiffusionConfig()
    validation: ValidationConfig

    def gradient_accumulation_steps(self, num_processes: int) -> int:
        """Forward passes per optimizer step. Raises ValueError when the global batch cannot be split so."""
        per_pass = self.train_batch_size * num_processes
        if self.global_batch_size % per_pass != 0:
            raise ValueError(
                f"global_batch_size {self.global_batch_size} is not a multiple of train_batch_size "
                f"{self.train_batch_size} x {num_processes} processes: change --train_batch_size or --global_batch_size"
            )
        return self.global_batch_size // per_pass
