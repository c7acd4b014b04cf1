"""Train the world model, any stage: ``accelerate launch train/train_world_model.py stage1 --output_dir DIR``.

Flags override the preset's values; ``--help`` after the preset lists them with their defaults.
"""

from collections.abc import Callable
from pathlib import Path

from accelerate import Accelerator
from tqdm import tqdm

from resim.checkpoint import Progress, find_checkpoint, load_state, prepare_output_dir, publish, save_checkpoint
from resim.config import TrainConfig
from resim.entry_point import one_line_errors
from resim.presets import parse_command_line
from resim.training.data import first_batches, training_batches, validation_data
from resim.training.log import TrainLog
from resim.training.run import TrainingRun, averaged_weights, make_accelerator, set_up
from resim.training.steps import (
    learning_rate_at,
    require_finite_losses,
    require_finite_norm,
    step_generator,
    weighted_sum,
)
from resim.training.validation import validation_losses, write_validation_videos
from resim.world_model.losses import draw, training_losses


def train(config: TrainConfig) -> None:
    """One run from its start, or from its checkpoint, to ``max_train_steps``."""
    accelerator = make_accelerator(config)
    if accelerator.is_main_process:
        prepare_output_dir(config)
    accelerator.wait_for_everyone()
    resume_from = find_checkpoint(config)
    model_folder = config.init_from if resume_from is None else resume_from
    run = set_up(config, accelerator, model_folder)
    start = 0 if resume_from is None else load_state(run, accelerator, config, resume_from).step
    sources = [entry.name for entry in run.data.entries]
    log = TrainLog(config.output_dir, accelerator, sources, config.diffusion.num_timesteps, start)
    validate = make_validation(run, accelerator, config, model_folder, log)
    if start == 0:
        validate(0)

    passes = config.gradient_accumulation_steps(accelerator.num_processes)
    batches = training_batches(
        run.data,
        start_pass=start * passes,
        num_passes=(config.max_train_steps - start) * passes,
        batch_size=config.train_batch_size,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        num_workers=config.data.dataloader_num_workers,
    )
    progress = tqdm(total=config.max_train_steps, initial=start, disable=not accelerator.is_main_process, desc="train")
    log.restart_clock()
    for step in range(start, config.max_train_steps):
        learning_rate = learning_rate_at(step, config.max_train_steps, config.optim)
        for group in run.optimizer.param_groups:
            group["lr"] = learning_rate
        clip_ids: list[str] = []

        for micro_step in range(passes):
            batch = next(batches).to(accelerator.device)
            clip_ids += batch.clip_id
            generator = step_generator(config.seed, step, accelerator.process_index, micro_step)
            latents, prompt_embeds = run.encode(batch, generator)
            draws = draw(latents.shape, generator, config.diffusion).to(accelerator.device)
            with accelerator.accumulate(run.model):
                losses = training_losses(
                    run.model, latents, prompt_embeds, batch.waypoints, batch.has_waypoints, draws, config.diffusion
                )
                require_finite_losses(losses, step, batch.clip_id)
                accelerator.backward(weighted_sum(losses, config.diffusion.loss_weights).mean())
            log.record(losses, draws.timestep_B, batch.source)

        grad_norm = float(accelerator.clip_grad_norm_(run.parameters, config.optim.max_grad_norm))
        require_finite_norm(grad_norm, step, clip_ids)
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.ema.step(run.parameters)
        progress.update()

        done, last = step + 1, step + 1 == config.max_train_steps
        if done % config.logging_steps == 0 or last:
            loss = log.write_interval(done, grad_norm, learning_rate, config.diffusion.loss_weights)
            progress.set_postfix(loss=f"{loss:.4f}", grad_norm=f"{grad_norm:.3f}")
        if done % config.checkpointing_steps == 0 or last:
            taken = Progress(
                step=done, samples=done * config.global_batch_size, num_processes=accelerator.num_processes
            )
            checkpoint = save_checkpoint(run, accelerator, config, taken, model_folder=model_folder)
            if last and accelerator.is_main_process:
                publish(checkpoint, config.output_dir)
        if done % config.validation.validation_steps == 0 or last:
            validate(done)
            log.restart_clock()
    log.close()
    accelerator.end_training()


def make_validation(
    run: TrainingRun, accelerator: Accelerator, config: TrainConfig, model_folder: Path, log: TrainLog
) -> Callable[[int], None]:
    """A function of the step that measures the averaged weights on the fixed held-out clips."""
    data = validation_data(config.data, model_folder)
    batches = first_batches(data, config.validation.num_validation_clips, config.train_batch_size)

    def validate(step: int) -> None:
        if accelerator.is_main_process:
            model = accelerator.unwrap_model(run.model)
            with averaged_weights(run.ema, run.parameters), accelerator.autocast():
                by_timestep = validation_losses(model, run.encode, batches, config.diffusion)
                write_validation_videos(run.pipeline, data, config.validation, config.output_dir / "validation", step)
            row = {"val_loss": sum(by_timestep.values()) / len(by_timestep), "val_loss_by_timestep": by_timestep}
            log.write("validation", step, row)
            tqdm.write(f"step {step}: validation loss {row['val_loss']:.4f}")
        accelerator.wait_for_everyone()

    return validate


if __name__ == "__main__":
    with one_line_errors():
        train(parse_command_line())
