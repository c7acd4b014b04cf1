"""Prompts -> text tokens through a frozen T5 encoder, and the small T5 of the tiny model."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from resim.datatypes.clip import COMMAND_SENTENCES, SCENE_PROMPT


class PromptEncoder:
    """Memoised frozen text encoder: driving prompts are few, so each is encoded once per run and precision."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, text_encoder: T5EncoderModel, max_length: int):
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
        self.max_length = max_length
        self._memory: dict[tuple[str, torch.dtype], torch.Tensor] = {}

    @torch.no_grad()
    def __call__(self, prompts: tuple[str, ...] | list[str]) -> torch.Tensor:
        """Text tokens (B, max_length, text_embed_dim) where the text encoder is, in its precision.

        Raises ValueError for a prompt that would be cut off.
        """
        dtype, device = self.text_encoder.dtype, self.text_encoder.device
        for prompt in set(prompts):
            if (prompt, dtype) in self._memory:
                continue
            ids = self.tokenizer(prompt).input_ids
            if len(ids) > self.max_length:
                raise ValueError(f"prompt has {len(ids)} tokens, at most {self.max_length} fit: {prompt!r}")
            # Padding is attended to, as in CogVideoX: the transformer was trained on padded text.
            padded = self.tokenizer(prompt, padding="max_length", max_length=self.max_length, return_tensors="pt")
            self._memory[prompt, dtype] = self.text_encoder(padded.input_ids.to(device))[0][0]
        return torch.stack([self._memory[prompt, dtype].to(device) for prompt in prompts])


def small_text_encoder(width: int, max_length: int, seed: int) -> tuple[PreTrainedTokenizerFast, T5EncoderModel]:
    """A tokenizer and a random frozen T5 of ``width`` for models trained from scratch; nothing is downloaded.

    The tokenizer is a byte-level BPE over the project's own prompts: their words are single tokens, and any other text
    falls back to bytes.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([SCENE_PROMPT + sentence for sentence in COMMAND_SENTENCES.values()], trainer)
    end = tokenizer.token_to_id("</s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", model_max_length=max_length
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = T5Config(
            vocab_size=512, d_model=width, d_kv=width // 2, d_ff=2 * width, num_layers=1, num_heads=2,
            pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
        )  # fmt: skip
        encoder = T5EncoderModel(config).eval().requires_grad_(False)
    return fast, encoder
