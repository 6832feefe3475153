"""A TRL trainer ready to run: the start model opened for training, and every setting said in words.

The model's dtype: full fine-tuning keeps float32 master weights (bf16 by autocast), because bfloat16 weights swallow
updates of the usual size; a frozen LoRA base keeps its own.
"""

from __future__ import annotations

import copy
import importlib.util
import math
from pathlib import Path
from typing import Any

import datasets
import torch
import trl
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from polypref.backends.base import ModelSpec
from polypref.backends.processes import count as processes
from polypref.backends.processes import rank
from polypref.backends.reward_training import RewardTrainOptions
from polypref.backends.sft_training import SFTTrainOptions
from polypref.backends.training import LoraOptions, TrainOptions
from polypref.backends.trl_data import Tokenised, kto_columns, sft_columns
from polypref.backends.trl_trainers import ChosenTrainer, PairedTrainer, UnpairedTrainer
from polypref.errors import ModelError, RecipeError

AnyOptions = TrainOptions | RewardTrainOptions | SFTTrainOptions


def build(
    found: Tokenised,
    start: ModelSpec,
    options: TrainOptions,
    micro_batch: int,
    tokenizer: PreTrainedTokenizerBase,
    work: Path,
) -> PairedTrainer | UnpairedTrainer | ChosenTrainer:
    """The TRL trainer of a method, ready to run; its model is on the device that accelerate gives this process."""
    rows = len(found.rows) * (2 if options.method == "kto" else 1)
    common = arguments(start, options, micro_batch, rows, work)
    model = open_trainable(start, options)
    given: dict[str, Any] = {
        "model": model,
        "processing_class": copy.deepcopy(tokenizer),  # TRL gives it a pad token
        "peft_config": lora_config(options.lora, task_type="CAUSAL_LM"),
        "callbacks": reporters(options, work.parent),
    }
    if options.method == "sft":
        config = trl.SFTConfig(**common, dataset_kwargs={"skip_prepare_dataset": True}, packing=False)
        return ChosenTrainer(args=one_device(config), train_dataset=_dataset(sft_columns(found)), **given)
    common |= {"beta": options.beta, "disable_dropout": options.lora is None or not options.lora.dropout}
    if common["disable_dropout"]:
        without_dropout(model)
    if options.method == "kto":
        config = trl.KTOConfig(**common, loss_type=options.loss_type or "kto")
        # A micro-batch of all processes together, so that one process with larger ones computes the same.
        columns = kto_columns(found, micro_batch * processes(), options.seed)
        return UnpairedTrainer(
            args=one_device(config), train_dataset=_dataset(columns), ref_model=_reference(model, options), **given
        )
    known = "ref_chosen_logps" in found.rows[0]
    config = trl.DPOConfig(
        **common,
        loss_type=[options.loss_type or "sigmoid"],
        label_smoothing=options.label_smoothing,
        precompute_ref_log_probs=known,
    )
    return PairedTrainer(
        args=one_device(config),
        train_dataset=_dataset(found.rows),
        ref_model=None if known else _reference(model, options),
        nll_weight=options.nll_weight,
        **given,
    )


def _reference(model: PreTrainedModel, options: TrainOptions) -> PreTrainedModel | None:
    """A copy of the start model; with LoRA it is there already, under the adapter. TRL would open one by its name,
    which is wrong where an adapter was merged in."""
    return None if options.lora is not None else copy.deepcopy(model)


def _warmup_steps(options: AnyOptions, rows: int) -> int:
    """Rounded down: transformers rounds up, and its first warm-up step is at rate 0, so one step would be none."""
    if options.warmup_steps is not None:
        return options.warmup_steps
    steps = options.max_steps or math.ceil(options.epochs * math.ceil(rows / options.batch_size))
    return int(options.warmup_ratio * steps)


def arguments(start: ModelSpec, options: AnyOptions, micro_batch: int, rows: int, work: Path) -> dict[str, Any]:
    """What every trainer is told, each setting in words."""
    cpu = start.device == "cpu" or not torch.accelerator.is_available()
    cuda = torch.cuda.is_available() and not cpu
    return {
        "output_dir": str(work),
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": options.batch_size // (micro_batch * processes()),
        "learning_rate": options.learning_rate,
        "num_train_epochs": options.epochs,
        "max_steps": options.max_steps or -1,
        "warmup_steps": _warmup_steps(options, rows),
        "lr_scheduler_type": options.schedule,
        "weight_decay": options.weight_decay,
        "max_grad_norm": options.max_grad_norm,
        "optim": options.optimizer,
        "max_length": options.max_length,
        "bf16": cuda and torch.cuda.is_bf16_supported() if options.bf16 == "auto" else options.bf16,
        "activation_checkpointing": (
            not cpu if options.gradient_checkpointing == "auto" else options.gradient_checkpointing
        ),
        "seed": options.seed,
        "data_seed": options.seed,
        "use_cpu": cpu,
        "save_strategy": "steps",
        "save_steps": options.save_steps,
        "save_total_limit": 1,
        "logging_strategy": "steps",
        "logging_steps": options.logging_steps,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "include_num_input_tokens_seen": "non_padding",
        "report_to": [name for name in options.report_to if name != "tensorboard"] or "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": cuda,
        "trust_remote_code": start.trust_remote_code,
    }


def without_dropout(model: PreTrainedModel) -> None:
    """Switch off what TRL's ``disable_dropout`` leaves on: rates that modules hand to a function, as attention does."""
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def one_device(config: Any) -> Any:
    """One process trains on one device; TRL refuses the DataParallel that several visible ones would give."""
    if config.n_gpu > 1:
        config._n_gpu = 1
    return config


def _dataset(columns: list[dict[str, Any]]) -> datasets.Dataset:
    return datasets.Dataset.from_list(columns)


def lora_config(lora: LoraOptions | None, **task: Any) -> Any:
    """Of peft, for a ``task_type``; None without LoRA."""
    if lora is None:
        return None
    from peft import LoraConfig

    modules = lora.target_modules
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        **task,
    )


def reporters(options: AnyOptions, folder: Path) -> list[Any]:
    for name in options.report_to:
        if importlib.util.find_spec(name) is None:
            raise RecipeError(f"train.report_to names {name}, which is not installed; run: pip install {name}")
    if "tensorboard" not in options.report_to or rank():
        return []
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    return [TensorBoardCallback(SummaryWriter(log_dir=str(folder / "runs")))]


def local(path: str) -> str:
    """A folder's path, its ~ written out, or the hub's name."""
    folder = Path(path).expanduser()
    return str(folder) if folder.is_dir() else path


def open_tokenizer(start: ModelSpec) -> tuple[PreTrainedTokenizerBase, Any]:
    """The tokenizer that scoring uses (an adapter's own where it brings one), and the model's configuration."""
    if (Path(start.path).expanduser() / "adapter_config.json").is_file():
        raise ModelError(f"{start.path} is a LoRA adapter; give its base model as path and it as adapter")
    own = start.adapter is not None and (Path(start.adapter).expanduser() / "tokenizer_config.json").is_file()
    trust: dict[str, Any] = {"trust_remote_code": start.trust_remote_code}
    try:
        return (
            AutoTokenizer.from_pretrained(
                local(start.adapter if own and start.adapter else start.path),
                revision=None if own else start.revision,
                **trust,
            ),
            AutoConfig.from_pretrained(local(start.path), revision=start.revision, **trust),
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"{start.path} cannot be opened as a model to train: {str(error).splitlines()[0]}") from None


def open_trainable(start: ModelSpec, options: TrainOptions | SFTTrainOptions) -> PreTrainedModel:
    """The start model with its adapter merged in, every weight of it trainable."""
    dtype = start.dtype if start.dtype != "auto" or options.lora is not None else "float32"
    try:
        model = AutoModelForCausalLM.from_pretrained(
            local(start.path),
            revision=start.revision,
            use_safetensors=True,
            trust_remote_code=start.trust_remote_code,
            attn_implementation=start.attention,
            dtype=dtype,
        )
        if start.adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, local(start.adapter)).merge_and_unload()
            model.requires_grad_(True)  # peft froze what the adapter lay on
    except (OSError, ValueError) as error:
        raise ModelError(f"{start.path} cannot be opened as a model to train: {str(error).splitlines()[0]}") from None
    model.generation_config = generation_config(start, model.config)
    return model


def generation_config(start: ModelSpec, config: Any) -> GenerationConfig:
    """The start model's own, made such that transformers writes it."""
    try:
        found = GenerationConfig.from_pretrained(local(start.path), revision=start.revision or "main")
    except OSError:
        found = GenerationConfig.from_model_config(config)
    try:
        found.validate(strict=True)
    except ValueError:
        # Some released models set a temperature without do_sample, which transformers reads but refuses to write.
        found.do_sample = True
    return found
