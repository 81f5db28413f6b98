"""The recipe's `train` section. Importing this costs no torch: a recipe is checked before anything slow is loaded."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from genzoo.config import Strict

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def _seconds(value: Any) -> Any:
    """`5400`, "90m" and "1h30m" are the same time."""
    if not isinstance(value, str):
        return value
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", value)
    if not parts or "".join(number + unit for number, unit in parts) != value.replace(" ", ""):
        raise ValueError("expected seconds, or a time like 2h30m (d, h, m, s)")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


_TIME = {"type": "string", "pattern": r"^(?=.*[1-9]) *(\d+(\.\d+)?[dhms] *)+$"}  # the lookahead: more than 0
Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, _TIME]}),
]


class OptimizerConfig(Strict):
    """An optimizer of timm's (`timm.optim.list_optimizers()`), torch's own among them."""

    name: str = Field("adam", description="timm's name of the optimizer: adam, adamw, sgd, lion, muon, ...")
    lr: float = Field(1e-3, gt=0, description="learning rate, at its highest point of the schedule")
    weight_decay: float = Field(0.0, ge=0, description="not applied to biases, norms and other 1-d parameters")
    betas: tuple[float, ...] | None = Field(None, description="null: the optimizer's own")
    momentum: float | None = Field(None, ge=0, lt=1, description="null: timm's own, 0.9 where there is one")
    eps: float | None = Field(None, gt=0, description="null: the optimizer's own")


class ScheduleConfig(Strict):
    """How the learning rate moves over the run: timm's schedules, stepped at every optimizer step."""

    name: Literal["constant", "cosine", "tanh", "poly", "step"] = Field("constant", description="timm's name")
    warmup_steps: int = Field(0, ge=0, description="optimizer steps over which the rate first grows linearly to lr")
    min_lr: float = Field(0.0, ge=0, description="rate at the end of cosine, tanh and poly")
    power: float = Field(1.0, gt=0, description="exponent of poly; 1: linear decay")
    decay_steps: int = Field(10_000, ge=1, description="step: optimizer steps between two decays")
    decay_rate: float = Field(0.1, gt=0, le=1, description="step: factor of each decay")


class TrainConfig(Strict):
    """The recipe's `train`. A step is one update of the optimizer."""

    steps: int = Field(10_000, ge=1, description="optimizer steps of the whole run")
    batch_size: int = Field(
        100, ge=1, description="images an optimizer step sees, over all processes and accumulated parts together"
    )
    grad_accumulation: int = Field(
        1,
        ge=1,
        description="parts a batch is cut into, one after the other, to save memory; BatchNorm and what an objective "
        "takes from a whole batch (gamma: optimal, free_bits) see a part alone",
    )
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    clip_grad_norm: float | None = Field(None, gt=0, description="largest L2 norm of all gradients; null: no clipping")
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="decay of a moving average of the weights, which then is the model that is kept; null: none",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where the GPU or CPU computes in it (a CPU with AMX or AVX512-BF16), else fp32"
    )
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="several processes: ddp, each holds everything; fsdp (FSDP2), each holds a share of the weights, "
        "the average and the optimizer's state",
    )
    channels_last: bool = Field(True, description="memory layout of images and convolutions")
    sync_batch_norm: bool = Field(
        False,
        description="BatchNorm over the batch of all processes (GPUs only); else each normalises its own images, and "
        "the main process's running averages are kept",
    )
    activation_checkpointing: bool = Field(
        False,
        description="keep only the inputs of the innermost blocks (of layers alone) for the backward pass, which "
        "computes the rest again: less memory, more time, the same gradients",
    )
    compile: Literal["off", "default", "max-autotune"] = Field("off", description="mode of torch.compile")
    log_every: int = Field(50, ge=1, description="optimizer steps a line of train.jsonl averages")
    checkpoint_every: int = Field(5000, ge=0, description="optimizer steps between checkpoints; 0: only at the end")
    panel_every: int = Field(5000, ge=0, description="optimizer steps between pictures; 0: only at the end")
    keep: int = Field(2, ge=1, description="newest checkpoints that are kept")
    keep_best: str | None = Field(
        None,
        description="scalar of train.jsonl (loss, mse, ...): the checkpoint where its mean since the line before was "
        "lowest is kept, too; null: none",
    )
    max_time: Seconds | None = Field(
        None,
        gt=0,
        description="training time, resumed parts included, after which training ends as if at its last step: "
        "seconds, or 2h30m; null: no limit",
    )
    on_nonfinite: Literal["stop", "skip"] = Field(
        "stop", description="a loss or gradient that is not finite: stop the run, or skip the step (reads every step)"
    )
    trackers: tuple[str, ...] = Field((), description="accelerate's experiment trackers by name: tensorboard, wandb")

    @model_validator(mode="after")
    def _graphs_are_replayed_whole(self):
        # Each replay of a CUDA graph overwrites the gradients that the part before has left.
        if self.compile == "max-autotune" and self.grad_accumulation > 1:
            raise ValueError("compile: max-autotune uses CUDA graphs, which cannot accumulate gradients; use default")
        return self

    @model_validator(mode="after")
    def _recomputed_by_one(self):
        if self.activation_checkpointing and self.compile != "off":
            raise ValueError(
                "activation_checkpointing: not with compile, which chooses by itself what to compute again; use one"
            )
        return self
