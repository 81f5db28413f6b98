import copy
import errno
import io
import json
import signal
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn

from genzoo.errors import Interrupted, UserError
from genzoo.training import checkpoint, signals
from genzoo.training.average import Average
from genzoo.training.checkpoint import newest
from genzoo.training.preflight import planned_checkpoint_bytes
from genzoo.training.trainer import Trainer


def read_log(folder):
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def equal(a: nn.Module, b: nn.Module, **tolerance):
    """Same state, bit for bit unless a tolerance is given."""
    for name, tensor in a.state_dict().items():
        torch.testing.assert_close(b.state_dict()[name], tensor, **(tolerance or {"rtol": 0, "atol": 0}))


def test_a_run(tmp_path, run):
    seen = []

    def panel(module, step):
        seen.append((step, module.training, torch.is_grad_enabled()))

    model, _, result = run(tmp_path, panel=panel, panel_every=8, ema=None)
    lines = read_log(tmp_path)
    assert [line["step"] for line in lines] == [4, 8, 12, 16, 20]
    assert seen == [(8, False, False), (16, False, False), (20, False, False)]
    assert lines[-1]["images"] == 200 and lines[-1]["epoch"] == pytest.approx(200 / 37)
    assert lines[-1]["loss"] < lines[0]["loss"]
    # 3.7 steps are an epoch: only the last interval lies in the last epoch, give or take its start
    assert result["reconstruction_mse"] == pytest.approx(lines[-1]["mse"]) and result["kl"] == pytest.approx(
        lines[-1]["kl"]
    )
    assert result["steps"] == 20 and result["precision"] == "fp32" and result["device"] == "cpu"
    assert result["num_parameters"] == sum(p.numel() for p in model.parameters())
    assert result["images_per_s"] == pytest.approx(200 / result["seconds"])
    assert not model.training


def test_what_a_part_says_of_the_last_epoch_is_kept(tmp_path, run, toy, monkeypatch):
    kind = type(toy[1])
    monkeypatch.setattr(kind, "diagnosis", lambda self, means: f"{sorted(means)[:2]}", raising=False)
    assert run(tmp_path / "ill", steps=4)[2]["notes"] == ["['beta', 'ema']"]
    monkeypatch.setattr(kind, "diagnosis", lambda self, means: "")
    assert "notes" not in run(tmp_path / "well", steps=4)[2]


def test_the_last_epoch_is_averaged_by_steps(tmp_path, run):
    result = run(tmp_path, batch_size=5, log_every=3, steps=20)[2]  # an epoch: 7.4 steps; lines at ..., 15, 18, 20
    last = read_log(tmp_path)[-2:]
    assert result["kl"] == pytest.approx((3 * last[0]["kl"] + 2 * last[1]["kl"]) / 5)


def test_equals_a_plain_loop(tmp_path, run, toy, images):
    """The same training written down without accelerate, timm, or any device tricks."""
    from genzoo.training.feed import Feed
    from genzoo.training.step import seed_step

    trained, objective, _ = run(tmp_path, ema=0.9, steps=12)
    model, expected_objective = toy
    average = copy.deepcopy(model)
    optimizer = torch.optim.Adam([*model.parameters(), *expected_objective.parameters()], lr=1e-3)
    feed = Feed(images, 10, 3, device=torch.device("cpu"))
    losses = []
    for step in range(12):
        x = torch.from_numpy(images[feed.indices(step)[0]]).permute(0, 3, 1, 2).contiguous().float() / 255
        seed_step(3, step, 0, torch.device("cpu"))
        terms = expected_objective(model(x), x, torch.tensor(step), model)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["loss"].item())
        decay = min(0.9, (1 + step) / (10 + step))
        for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
            kept.copy_(decay * kept + (1 - decay) * new if kept.is_floating_point() else new)
    equal(average, trained, rtol=1e-4, atol=1e-5)
    equal(expected_objective, objective, rtol=1e-4, atol=1e-5)
    assert [line["loss"] for line in read_log(tmp_path)] == pytest.approx(
        [np.mean(losses[start : start + 4]) for start in (0, 4, 8)], rel=1e-4
    )


def test_a_long_average_reads_every_tenth_step():
    """Of weights that rise by one a step: as far behind them as one that reads each, less half of ten steps."""
    model, average = nn.Linear(1, 1), nn.Linear(1, 1)
    exact, made = torch.zeros(()), Average(average, model, 0.99)
    for tensor in [*model.parameters(), *average.parameters()]:
        nn.init.zeros_(tensor)
    for step in range(2000):
        for tensor in model.parameters():
            tensor.data += 1
        before = average.weight.item()
        made.update(step)
        decay = min(0.99, (1 + step) / (10 + step))
        exact = decay * exact + (1 - decay) * (step + 1)
        if step < 100:
            assert average.weight.item() == pytest.approx(exact.item())
        elif (step + 1) % 10:
            assert average.weight.item() == before
    assert 2000 - exact == pytest.approx(99, abs=1)
    assert 2000 - average.weight.item() == pytest.approx(99 - 4.5, abs=1)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_panels_and_checkpoints_change_nothing(tmp_path, run, ema):
    def panel(module, step):
        torch.manual_seed(0)
        np.random.seed(0)
        module(torch.rand(3, 3, 8, 8, device=next(module.parameters()).device))

    busy = run(tmp_path / "busy", panel=panel, panel_every=3, checkpoint_every=2, log_every=1, ema=ema)[0]
    equal(busy, run(tmp_path / "quiet", checkpoint_every=0, panel_every=0, ema=ema)[0])


def test_accumulated_parts_are_one_batch(tmp_path, run):
    settings = {"plain": True, "batch_size": 12, "ema": None, "optimizer": {"name": "sgd", "lr": 0.01}}
    whole, parts = (run(tmp_path / str(n), grad_accumulation=n, **settings)[0] for n in (1, 3))
    equal(whole, parts, rtol=1e-4, atol=1e-6)
    assert read_log(tmp_path / "3")[-1]["loss"] == pytest.approx(read_log(tmp_path / "1")[-1]["loss"], rel=1e-4)


def test_clipping_bounds_the_update_and_logs_the_norm_before(tmp_path, run, toy):
    rate, norm = 1e-2, 1e-3
    model, _, _ = run(
        tmp_path, steps=1, ema=None, clip_grad_norm=norm, optimizer={"name": "sgd", "lr": rate, "momentum": 0.5}
    )  # fmt: skip
    moved = [new - old for new, old in zip(model.parameters(), toy[0].parameters(), strict=True)]
    assert 0 < torch.stack([change.norm() for change in moved]).norm() <= rate * norm * 1.001
    assert read_log(tmp_path)[0]["grad_norm"] > 1


def test_nonfinite_stops_at_its_step_and_is_never_saved(tmp_path, run):
    with pytest.raises(UserError, match=r"step 8 is not finite: loss nan, rec nan, kl 0.*checkpoint is of step 5.*lr"):
        run(tmp_path, poison=7, checkpoint_every=5)
    assert checkpoint.newest(tmp_path).name == "step-00000005"
    assert [line["step"] for line in read_log(tmp_path)] == [4]
    with pytest.raises(UserError, match=r"step 8 is not finite.*there is no checkpoint yet"):
        run(tmp_path / "saved just then", poison=7, checkpoint_every=8, log_every=50)
    assert checkpoint.newest(tmp_path / "saved just then") is None


def test_a_gradient_that_is_not_finite_under_a_loss_that_is(tmp_path, run, monkeypatch):
    clip = Trainer._clip

    def poisoned(self):
        norm = clip(self)
        if self.state.done == 6:
            next(p for p in self.state.parameters if p.grad is not None).grad.fill_(torch.nan)
        return norm

    monkeypatch.setattr(Trainer, "_clip", poisoned)
    with pytest.raises(UserError, match="the weights are not finite after step 7"):
        run(tmp_path / "saved", checkpoint_every=7)
    with pytest.raises(UserError, match="step 8 is not finite: loss nan"):
        run(tmp_path / "trained")
    assert not newest(tmp_path / "saved")


def test_the_norm_is_of_each_step_where_it_is_needed_and_else_of_an_intervals_first(tmp_path, run):
    each = {"each": {"clip_grad_norm": 1e9}, "skip": {"on_nonfinite": "skip"}, "first": {}}
    norms = {name: [] for name in each}
    for name, settings in each.items():
        run(tmp_path / name, log_every=1, steps=8, ema=None, **settings)
        norms[name] = [line["grad_norm"] for line in read_log(tmp_path / name)]
    assert norms["each"] == norms["skip"] == norms["first"]
    run(tmp_path / "four", log_every=4, steps=8, ema=None)
    assert [line["grad_norm"] for line in read_log(tmp_path / "four")] == pytest.approx(norms["first"][::4])
    run(tmp_path / "mean", log_every=4, steps=8, ema=None, clip_grad_norm=1e9)
    means = [np.mean(norms["each"][:4]), np.mean(norms["each"][4:])]
    assert [line["grad_norm"] for line in read_log(tmp_path / "mean")] == pytest.approx(means)


def test_nonfinite_skips_the_step_and_goes_on(tmp_path, run):
    run(tmp_path, poison=7, on_nonfinite="skip", checkpoint_every=1, keep=20)
    saved = [checkpoint.read_tensors(tmp_path / f"checkpoints/step-{step:08d}", "model") for step in (7, 8, 9)]
    assert all(saved[0][name].equal(saved[1][name]) for name in saved[0])  # BatchNorm's averages among them
    assert not saved[1]["encoder.0.weight"].equal(saved[2]["encoder.0.weight"])
    objective = checkpoint.read_tensors(checkpoint.newest(tmp_path), "objective")
    assert all(tensor.isfinite().all() for tensor in objective.values())
    assert [line.get("skipped") for line in read_log(tmp_path)] == [None, 1, None, None, None]
    assert all(np.isfinite(line["loss"]) for line in read_log(tmp_path))


def test_skipping_every_step_of_an_interval_is_no_training(tmp_path, run):
    with pytest.raises(UserError, match="step 1 is not finite"):
        run(tmp_path, poison=0, lasting=True, on_nonfinite="skip")


def test_max_time_ends_training_as_its_last_step_would(tmp_path, run):
    seen = []
    result = run(tmp_path, steps=10**6, max_time=0.2, panel=lambda module, step: seen.append(step))[2]
    assert 0 < result["steps"] < 10**5 and result["seconds"] < 5
    assert seen == [result["steps"]] == [read_log(tmp_path)[-1]["step"]]
    assert checkpoint.read_state(checkpoint.newest(tmp_path))["step"] == result["steps"]
    again = run(tmp_path, steps=10**6, max_time=0.2, resume=True)[2]
    assert again["steps"] == result["steps"]


@pytest.mark.parametrize("log_every", [4, 7])
@pytest.mark.parametrize("checkpoint_every", [0, 5])
def test_a_finished_run_is_not_trained_again(tmp_path, run, log_every, checkpoint_every):
    settings = {"log_every": log_every, "checkpoint_every": checkpoint_every}
    model, _, result = run(tmp_path, **settings)
    lines = read_log(tmp_path)
    for _ in range(2):
        again, _, same = run(tmp_path, resume=True, model_seed=5, **settings)
        equal(model, again)
        timed = {"seconds", "images_per_s"}
        assert all(result[key] == same[key] for key in result if key not in timed)
        assert read_log(tmp_path) == lines
    assert [line["step"] for line in lines] == [*range(log_every, 20, log_every), 20]


@pytest.mark.parametrize("name", ["kron", "adafactorbv"])
def test_optimizers_with_unusual_states_go_on_exactly(tmp_path, run, name):
    settings = {"optimizer": {"name": name}, "checkpoint_every": 0}
    run(tmp_path / "parts", steps=8, **settings)
    resumed = run(tmp_path / "parts", resume=True, model_seed=5, **settings)[0]
    equal(resumed, run(tmp_path / "whole", **settings)[0])


@pytest.mark.parametrize("number", signals.ENDING)
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(tmp_path, run, number):
    before = signal.getsignal(number)

    def interrupt(module, step):
        if step == 6:
            signal.raise_signal(number)

    with pytest.raises(
        Interrupted, match=rf"{number.name} after step 7, .*genzoo run {tmp_path}/r/recipe.yaml .*--resume"
    ):
        run(tmp_path / "r", panel=interrupt, panel_every=1)
    assert signal.getsignal(number) is before
    resumed = run(tmp_path / "r", resume=True)[0]
    equal(resumed, run(tmp_path / "whole")[0])
    assert [line["step"] for line in read_log(tmp_path / "r")] == [4, 8, 12, 16, 20]
    with pytest.raises(Interrupted):
        run(tmp_path / "short", panel=interrupt, panel_every=1)
    stopped = checkpoint.read_state(checkpoint.newest(tmp_path / "short"))["step"]
    for _ in range(2):  # its end is where it stopped, within an interval
        run(tmp_path / "short", resume=True, steps=stopped)
        assert [line["step"] for line in read_log(tmp_path / "short")] == [4, stopped]
    with pytest.raises(Interrupted, match="after step 6, "):  # during the last picture, too
        run(tmp_path / "late", steps=6, panel=interrupt, panel_every=0)


class Full(io.StringIO):
    def flush(self):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("stderr", [None, Full()], ids=["closed", "full"])
def test_a_run_goes_on_without_its_log(tmp_path, run, monkeypatch, capsys, stderr):
    monkeypatch.setattr(sys, "stderr", stderr)
    run(tmp_path, steps=8, progress=True)
    assert [line["step"] for line in read_log(tmp_path)] == [4, 8]
    assert not capsys.readouterr().out  # where results go


def test_nohup_is_heeded(tmp_path, run):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run(tmp_path, steps=2, panel=lambda module, step: signal.raise_signal(signal.SIGHUP), panel_every=1)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_picture_that_fails_is_a_warning_after_the_checkpoint(tmp_path, run, caplog):
    def broken(module, step):
        assert checkpoint.read_state(checkpoint.newest(tmp_path))["step"] == step
        raise ValueError("no picture of this")

    run(tmp_path, steps=2, panel=broken, panel_every=1, checkpoint_every=1)
    assert [r.getMessage() for r in caplog.records if "no picture of step" in r.getMessage()] == [
        f"no picture of step {i}: ValueError: no picture of this" for i in (1, 2)
    ]


def test_a_second_signal_stops_at_once(tmp_path, run, monkeypatch):
    def interrupt(module, step):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):  # as torchrun passes a signal on that its workers had already
        run(tmp_path / "echo", panel=interrupt, panel_every=1)
    monkeypatch.setattr(signals, "ECHO", 0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in jobs that a shell starts with &
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "again", panel=interrupt, panel_every=1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert checkpoint.newest(tmp_path / "again") is None


def test_training_outside_the_main_thread(tmp_path, run):
    results = []
    thread = threading.Thread(target=lambda: results.append(run(tmp_path, steps=2)[2]["steps"]))
    thread.start()
    thread.join()
    assert results == [2]


def test_a_folder_holds_one_run(tmp_path, run):
    run(tmp_path, steps=2)
    with pytest.raises(UserError, match="holds a run already; go on with --resume"):
        run(tmp_path, steps=2)
    with pytest.raises(UserError, match="was made with batch_size 10, not 20"):
        run(tmp_path, steps=4, batch_size=20, resume=True)


def test_a_fuller_disk_stops_the_run_with_its_last_checkpoint_whole(tmp_path, run, monkeypatch):
    import shutil

    usage, calls = shutil.disk_usage(tmp_path), []

    def filling(path):
        calls.append(path)
        return usage if len(calls) < 3 else usage._replace(free=0)

    monkeypatch.setattr(shutil, "disk_usage", filling)
    with pytest.raises(UserError, match="make room and go on with --resume"):
        run(tmp_path, checkpoint_every=3)
    monkeypatch.undo()
    assert checkpoint.newest(tmp_path).name == "step-00000006"
    equal(run(tmp_path, resume=True)[0], run(tmp_path / "whole")[0])


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=str,
)
def test_out_of_memory_says_what_to_lower(tmp_path, run, monkeypatch, error):
    def clip(self):
        raise error

    monkeypatch.setattr(Trainer, "_clip", clip)
    with pytest.raises(UserError, match=r"batch_size 10 in 1 part\(s\): raise train.grad_accumulation"):
        run(tmp_path)


def test_other_errors_stay_as_they_are(tmp_path, run, monkeypatch):
    monkeypatch.setattr(Trainer, "_clip", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"trackers": ["tensorbord"]}, "did you mean 'tensorboard'"),
        ({"trackers": ["clearml"]}, "clearml is not installed; pip install clearml"),
        ({"optimizer": {"name": "adamm"}}, "did you mean 'adam'"),
        ({"batch_size": 10, "grad_accumulation": 3}, "batch_size 10 cannot be shared equally"),
        pytest.param(
            {"precision": "fp16"},
            "needs a CUDA GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU"),
        ),
        ({"parallel": "fsdp", "precision": "fp16"}, r"train\.precision: not with train\.parallel=fsdp; use bf16"),
        ({"parallel": "fsdp", "compile": "default"}, r"train\.compile: not with train\.parallel=fsdp; use off"),
        ({"parallel": "fsdp", "optimizer": {"name": "lamb"}}, r"optimizer\.name: not with .* adam, adamw, sgd"),
    ],
    ids=str,
)
def test_settings_are_refused_before_the_first_step(tmp_path, run, setting, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", **setting)
    assert not list(tmp_path.rglob("*.jsonl"))


def test_sharding_by_accelerate_itself_is_refused(tmp_path, run, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match=r"configuration asks for FSDP, .*train\.parallel=fsdp"):
        run(tmp_path)


def test_the_planned_space_is_what_a_run_takes(tmp_path, run):
    from genzoo.training.config import TrainConfig

    model, objective, _ = run(tmp_path, checkpoint_every=5, keep=2)
    taken = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    config = TrainConfig(keep=2, ema=0.9)
    # safetensors headers weigh as much as these few thousand weights, so this holds to a factor, not to a percent
    assert 0.4 < taken / (planned_checkpoint_bytes([model, objective], config) * 2 / 3) < 3


def test_progress_without_a_terminal_is_a_line_an_interval(tmp_path, run, capsys):
    run(tmp_path, progress=True)
    captured = capsys.readouterr()
    assert captured.out == "" and [line.split()[1] for line in captured.err.splitlines()] == [
        "4",
        "8",
        "12",
        "16",
        "20",
    ]
    assert "images/s" in captured.err and "loss" in captured.err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_no_step_waits_for_the_gpu(tmp_path, run, monkeypatch, precision):
    """Reading the scalars at the end of an interval is the only synchronisation."""
    clip = Trainer._clip

    def strict(self):
        torch.cuda.set_sync_debug_mode("error" if 0 < self.state.done < 20 else "default")
        return clip(self)

    monkeypatch.setattr(Trainer, "_clip", strict)
    try:
        run(tmp_path, steps=21, log_every=50, precision=precision)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a C++ compiler")
@pytest.mark.long
def test_compiled_training_is_one_graph(tmp_path, run):
    torch._dynamo.reset()
    compiled = run(tmp_path / "compiled", compile="default", plain=True)[2]
    assert (compiled["compiled_graphs"], compiled["recompilations"]) == (1, 0)
    eager = run(tmp_path / "eager", plain=True)[2]
    assert compiled["kl"] == pytest.approx(eager["kl"], rel=1e-3) and "compiled_graphs" not in eager


def test_recompilations_are_counted():
    from genzoo.training.compilation import Compilations

    class Fickle(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.factor = nn.Linear(3, 3), 1.0

        def forward(self, x):
            doubled = 2 * self.layer(x)
            torch._dynamo.graph_break()
            return doubled + 1 if self.factor == 1.0 else self.factor * doubled

    torch._dynamo.reset()
    module, counted = Fickle(), Compilations()
    module.compile(backend="aot_eager")
    for factor in (1.0, 1.0, 3.0, 1.0):
        module.factor = factor
        module(torch.ones(2, 3)).sum().backward()
    assert counted.summary() == {"compiled_graphs": 3, "recompilations": 1}
    assert Compilations().summary() == {"compiled_graphs": 0, "recompilations": 0}


def test_trackers_get_the_scalars_and_the_recipe(tmp_path, run, monkeypatch):
    import accelerate.tracking as tracking
    from accelerate.utils import LoggerType

    seen = {"finished": False}

    class Recorder(tracking.GeneralTracker):
        name = "tensorboard"
        requires_logging_directory = True

        def __init__(self, run_name, logging_dir, **options):
            super().__init__()
            seen["folder"] = str(logging_dir)

        @property
        def tracker(self):
            return self

        def store_init_configuration(self, values):
            seen["config"] = values

        def log(self, values, step, **options):
            seen[step] = values

        def finish(self):
            seen["finished"] = True

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", Recorder)
    monkeypatch.setattr(tracking, "_available_trackers", [LoggerType.TENSORBOARD])
    run(tmp_path, trackers=["tensorboard"], steps=8, metadata={"recipe": "name: toy"})
    assert seen["folder"] == str(tmp_path / "trackers") and seen["config"] == {"recipe": "name: toy"}
    assert [{"step": step, **seen[step]} for step in (4, 8)] == read_log(tmp_path)
    assert seen["finished"]


@pytest.mark.parametrize("log_every", [1, 4])
def test_the_checkpoint_with_the_lowest_scalar_is_kept(tmp_path, run, log_every):
    settings = {"checkpoint_every": 2, "keep": 1, "log_every": log_every}
    result = run(tmp_path, keep_best="kl", **settings)[2]
    everything = run(tmp_path / "all", **{**settings, "keep": 99})[0]
    values = {
        path.name: checkpoint.read_state(path)["scalars"]["kl"] for path in (tmp_path / "all/checkpoints").iterdir()
    }
    best = min(values, key=values.get)
    assert result["best_checkpoint"] == best != "step-00000020"
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {best, "step-00000020"}
    if log_every == 1:
        assert values[best] == read_log(tmp_path)[int(best[5:]) - 1]["kl"]
    equal(everything, run(tmp_path, resume=True, steps=20)[0])
    with pytest.raises(UserError, match=r"train\.keep_best: the objective gives no 'fid' \(it gives: loss, rec"):
        run(tmp_path / "unknown", keep_best="fid")
