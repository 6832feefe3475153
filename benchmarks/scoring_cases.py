"""What benchmarks/scoring.py measures with: random models, answers of known lengths, the loops beside ours, a clock."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from torch.nn.functional import linear
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from polypref.backends.base import Answer, ModelSpec
from polypref.backends.hf_logprobs import HFLogprobs

SHAPES = {"short": (48, 285), "long": (1000, 100)}
ANSWERS = 10
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] + ' <|end|>' }}{% if not loop.last %}{{ ' ' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ ' <|assistant|>' }}{% endif %}"
)
SPECIAL = ["<unk>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<pad>"]


def save(folder: Path, vocabulary: int, dtype: torch.dtype) -> None:
    """A model with random weights and a tokenizer of whole words."""
    words = {word: k for k, word in enumerate([*SPECIAL, *(f"w{k}" for k in range(vocabulary - len(SPECIAL)))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<|end|>", pad_token="<pad>", chat_template=TEMPLATE
    )
    fast.save_pretrained(folder)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        tie_word_embeddings=True,
        max_position_embeddings=4096,
        eos_token_id=1,
        pad_token_id=5,
    )
    torch.manual_seed(0)
    Qwen3ForCausalLM(config).to(dtype).save_pretrained(folder)


def answers(vocabulary: int, shape: tuple[int, int], prompts: int) -> list[Answer]:
    """Words by a seed; lengths are spread evenly from 0.4 to 1.6 times the mean."""
    noise, out = random.Random(0), []

    def said(words: int) -> str:
        return " ".join(f"w{noise.randrange(vocabulary - len(SPECIAL))}" for _ in range(words))

    for k in range(prompts):
        messages = [{"role": "user", "content": said(shape[0] - 3)}]
        for n in noise.sample(range(ANSWERS), ANSWERS):
            words = round(shape[1] * (0.4 + 1.2 * n / (ANSWERS - 1)))
            out.append(Answer(f"{k}/{n}", messages, said(words), finished=False))
    return out


@dataclass
class Case:
    """The sequences of a shape as token ids, and the model that scores them."""

    scorer: HFLogprobs
    rows: list[Answer]
    prompts: list[list[int]]
    texts: list[list[int]]

    @classmethod
    def of(cls, folder: Path, rows: list[Answer], dtype: str, device: str) -> Case:
        scorer = HFLogprobs(ModelSpec(path=str(folder), dtype=dtype, device=device))
        template = scorer.loaded.template
        return cls(
            scorer,
            rows,
            [list(template.prompt_ids(row.messages)) for row in rows],
            [template.answer_tokens(row)[0] for row in rows],
        )

    def ours(self) -> list[float]:
        return [found.sum for found in self.scorer.logprobs(self.rows)]

    def plain(self) -> list[float]:
        out = []
        for prompts, ids, logits in self.loop(self.scorer.loaded.model):
            found = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
            for k, (prompt, text) in enumerate(prompts):
                out.append(float(found[k, len(prompt) - 1 : len(prompt) + len(text) - 1].double().sum()))
        return out

    @torch.inference_mode()
    def loop(self, model: Any) -> Iterator[tuple[list[tuple[list[int], list[int]]], Tensor, Tensor]]:
        """Batches of three: prompts and answers, the padded ids, and what the model says first of them."""
        for first in range(0, len(self.rows), 3):
            batch = list(zip(self.prompts, self.texts, strict=True))[first : first + 3]
            width = max(len(prompt) + len(text) for prompt, text in batch)
            ids = torch.full((len(batch), width), 5)
            mask = torch.zeros_like(ids)
            for k, (prompt, text) in enumerate(batch):
                ids[k, : len(prompt) + len(text)] = torch.tensor(prompt + text)
                mask[k, : len(prompt) + len(text)] = 1
            ids, mask = ids.to(model.device), mask.to(model.device)
            yield batch, ids, model(input_ids=ids, attention_mask=mask)[0]

    @torch.inference_mode()
    def ideal(self) -> None:
        model = self.scorer.loaded.model
        once = {tuple(prompt) for prompt in self.prompts}
        below = sum(map(len, once)) + sum(map(len, self.texts))
        layer, head = model.model.layers[0], model.get_output_embeddings().weight
        weights = [getattr(layer.self_attn, f"{name}_proj").weight for name in ("q", "k", "v", "o")]
        weights += [layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight, layer.mlp.down_proj.weight]
        inputs = {w.shape[1]: torch.randn(512, w.shape[1], device=w.device, dtype=w.dtype) for w in (*weights, head)}
        for _ in range(len(model.model.layers)):
            for weight in weights:
                for first in range(0, below, 512):
                    linear(inputs[weight.shape[1]][: min(512, below - first)], weight)
        for _ in range(0, sum(map(len, self.texts)), 512):
            linear(inputs[head.shape[1]], head)
        if torch.cuda.is_available() and model.device.type == "cuda":
            torch.cuda.synchronize()

    def trl(self, folder: Path, dtype: str) -> Callable[[], Any]:
        """TRL's pass over the same sequences; the trainer is made beforehand."""
        from datasets import Dataset
        from trl import DPOConfig, DPOTrainer

        tokenizer = self.scorer.loaded.tokenizer
        pairs = [
            {
                "prompt": tokenizer.decode(self.prompts[k]),
                "chosen": " " + self.rows[k].text,
                "rejected": " " + self.rows[k + 1].text,
            }
            for k in range(0, len(self.rows), 2)
        ]
        config = DPOConfig(
            output_dir=str(folder / "trl"),
            per_device_train_batch_size=3,
            max_length=None,
            report_to=[],
            use_cpu=self.scorer.loaded.device.type == "cpu",
            bf16=False,
            gradient_checkpointing=False,
            model_init_kwargs={"dtype": dtype},
        )
        data = Dataset.from_list(pairs)
        trainer = DPOTrainer(str(folder), args=config, train_dataset=data, processing_class=tokenizer)
        trainer.ref_model.eval()
        loader = trainer.get_train_dataloader()

        @torch.inference_mode()
        def run() -> list[Any]:
            return [trainer.compute_ref_log_probs(trainer.ref_model, batch) for batch in loader]

        return run


def peak(work: Callable[[], Any]) -> tuple[float, Any]:
    """MiB by which the resident set grows while it works, and what it gives."""
    process, highest, over = psutil.Process(), 0, threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        nonlocal highest
        while not over.wait(0.005):
            highest = max(highest, process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        found = work()
    finally:
        over.set()
        thread.join()
    return max(0, highest - before) / 2**20, found


def seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def in_turns(works: dict[str, Callable[[], Any]], repeat: int) -> dict[str, list[float]]:
    """Seconds of each, every repeat one of each."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeat):
        for name, work in works.items():
            times[name].append(seconds(work))
    return times


def largest(ours: Sequence[float], plain: Sequence[float]) -> float:
    return max(abs(one - two) for one, two in zip(ours, plain, strict=True))
