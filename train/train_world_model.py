"""Train the world model, any stage: ``accelerate launch train/train_world_model.py stage1 --output_dir DIR``.

Flags override the preset's values; ``--help`` after the preset lists them with their defaults.
"""

from collections.abc import Callable, Iterator

from tqdm import tqdm

from resim.data.batch import Batch
from resim.entry_point import one_line_errors
from resim.runtime.optim import require_finite_norm, set_learning_rate
from resim.training.checkpoint import (
    find_checkpoint,
    load_state,
    prepare_output_dir,
    publish,
    save_checkpoint,
    write_run_config,
)
from resim.training.config import TrainConfig
from resim.training.data import first_batches, training_batches, validation_data
from resim.training.log import TrainLog
from resim.training.presets.command_line import parse_command_line
from resim.training.run import TrainingRun, averaged_weights, make_accelerator, set_up
from resim.training.steps import (
    require_finite_losses,
    step_generator,
    weighted_sum,
)
from resim.training.validation import validation_losses, write_validation_videos
from resim.world_model.losses import draw, training_losses


def train_world_model(config: TrainConfig) -> None:
    """One run from its start, or from its checkpoint, to ``max_train_steps``."""
    accelerator = make_accelerator(config)
    if accelerator.is_main_process:
        prepare_output_dir(config)
    accelerator.wait_for_everyone()
    checkpoint = find_checkpoint(config)
    run = set_up(config, accelerator, model_folder=config.init_from if checkpoint is None else checkpoint)
    start = 0 if checkpoint is None else load_state(run, checkpoint).step
    write_run_config(run)
    log = TrainLog(run, start)
    validate = make_validation(run, log)
    if start == 0:
        validate(0)

    batches = training_batches(
        run.data, config, start=start, rank=accelerator.process_index, world_size=accelerator.num_processes
    )
    progress = tqdm(total=config.max_train_steps, initial=start, disable=not accelerator.is_main_process, desc="train")
    log.restart_clock()
    for step in range(start, config.max_train_steps):
        learning_rate = set_learning_rate(run.optimizer, step, config.max_train_steps, config.optim)
        grad_norm = accumulate_gradients(run, batches, step, log)
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.ema.step(run.parameters)

        done, last = step + 1, step + 1 == config.max_train_steps
        if done % config.logging_steps == 0 or last:
            loss = log.write_interval(done, grad_norm, learning_rate)
            progress.set_postfix(loss=f"{loss:.4f}", grad_norm=f"{grad_norm:.3f}", refresh=False)
        progress.update()
        if done % config.checkpointing_steps == 0 or last:
            checkpoint = save_checkpoint(run, done)
        if done % config.validation.validation_steps == 0 or last:
            validate(done)
            log.restart_clock()
    if accelerator.is_main_process and checkpoint is not None:
        publish(checkpoint, config.output_dir)
    progress.close()
    accelerator.end_training()


def accumulate_gradients(run: TrainingRun, batches: Iterator[Batch], step: int, log: TrainLog) -> float:
    """The forward and backward passes of one optimizer step, and the clipping; returns the norm before it.

    Raises FloatingPointError, naming step and clips, before anything that is not finite reaches the weights.
    """
    config, accelerator = run.config, run.accelerator
    clip_ids: list[str] = []
    for micro_step in range(accelerator.gradient_accumulation_steps):
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
    return grad_norm


def make_validation(run: TrainingRun, log: TrainLog) -> Callable[[int], None]:
    """A function of the step that measures the averaged weights on the fixed held-out clips."""
    config, accelerator = run.config, run.accelerator
    data = validation_data(config.data, run.model_folder)
    batches = first_batches(data, config.validation.num_validation_clips, config.train_batch_size)

    def validate(step: int) -> None:
        if accelerator.is_main_process:
            model = accelerator.unwrap_model(run.model)
            with averaged_weights(run.ema, run.parameters), accelerator.autocast():
                by_timestep = validation_losses(model, run.encode, batches, config.diffusion)
                write_validation_videos(run.pipeline, data, config.validation, config.output_dir / "validation", step)
            val_loss = sum(by_timestep.values()) / len(by_timestep)
            log.write("validation", step, {"val_loss": val_loss, "val_loss_by_timestep": by_timestep})
            tqdm.write(f"step {step}: validation loss {val_loss:.4f}")
        accelerator.wait_for_everyone()

    return validate


if __name__ == "__main__":
    with one_line_errors():
        train_world_model(parse_command_line())
