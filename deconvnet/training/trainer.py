"""Training a classifier by the recipe of Zeiler & Fergus, section 3, on any folder of images.

Stochastic gradient descent with momentum and weight decay, an annealed rate, flips and random
crops; after each step every convolution filter whose root mean square exceeds `rms_clip` is scaled
back to it, which keeps first-layer filters from dominating (figure 6a).

Interrupted or killed, the same command goes on from the last checkpoint; on one machine with one
number of threads the result equals that of an undisturbed run, because all randomness is drawn from
(seed, epoch, step).
"""

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Event, current_thread, main_thread
from types import FrameType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from deconvnet.data.dataset import Dataset
from deconvnet.errors import ParameterError
from deconvnet.importers.checkpoints import read_weights, save_weights
from deconvnet.training.evaluate import Pixels, class_ids, evaluate
from deconvnet.training.recipe import TrainOptions, TrainProgress, augment, clip_rms, schedule
from deconvnet.training.report import export_half, first_layer_picture, learning_curve
from deconvnet.zoo import ModelSpec


def _precision(wanted: str, device: str) -> bool:
    """Whether to train under bf16 autocast: only where the processor multiplies bf16."""
    if wanted not in ("auto", "bf16", "fp32"):
        raise ParameterError(f"precision is '{wanted}', expected auto, bf16 or fp32.")
    if wanted != "auto":
        return wanted == "bf16"
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    return _cpu_has_bf16()


def _cpu_has_bf16() -> bool:
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


@contextmanager
def _held_interrupts() -> Iterator[Event]:
    """Ctrl-C sets the event, to be acted on between two steps; a second one interrupts at once."""
    interrupted = Event()
    if current_thread() is not main_thread():
        yield interrupted
        return

    def hold(number: int, frame: FrameType | None) -> None:
        if interrupted.is_set():
            signal.default_int_handler(number, frame)
        interrupted.set()

    before = signal.signal(signal.SIGINT, hold)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


class Trainer:
    """One resumable run: `Trainer(...).run()`."""

    def __init__(
        self,
        spec: ModelSpec,
        module: nn.Module,
        train: Dataset,
        validation: Dataset | None,
        options: TrainOptions,
        class_names: dict[str, str] | None = None,
    ) -> None:
        self.spec, self.options = spec, options
        self.labels = train.labels
        self.names = [(class_names or {}).get(label, label) for label in self.labels]
        self.train, self.validation = train, validation
        self.targets = class_ids(train, self.labels)
        self.module = module.to(options.device).to(memory_format=torch.channels_last)
        first = [p for n, p in module.named_parameters() if n.startswith("conv1.")]
        ids = {id(p) for p in first}
        rest = [p for p in module.parameters() if id(p) not in ids]
        recipe = options.recipe
        self.optimiser = torch.optim.SGD(
            [{"params": rest, "scale": 1.0}, {"params": first, "scale": recipe.first_layer_rate}],
            lr=recipe.rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay,
        )  # fmt: skip
        self.progress = TrainProgress()
        self.schedule = self._schedule()
        self.bf16 = _precision(options.precision, options.device)

    @property
    def steps(self) -> int:
        """Steps in an epoch; the last, smaller batch is dropped where there is a full one."""
        return max(1, len(self.train) // self.options.recipe.batch)

    def run(self) -> Path:
        """Train to the end and return the final weights' path."""
        self.options.out.mkdir(parents=True, exist_ok=True)
        self._resume()
        show = self.options.progress
        pixels = Pixels(self.train, self.spec.preprocess, progress=show)
        held_out = (
            Pixels(self.validation, self.spec.preprocess, progress=show)
            if self.validation
            else None
        )
        with _held_interrupts() as interrupted:
            while self.progress.epoch < self.options.recipe.epochs:
                self._epoch(pixels, interrupted)
                self._finish_epoch(held_out)
                self._leave_if(interrupted)
        return self._save(self.options.out / f"{self.spec.name.replace(':', '-')}.safetensors")

    def _schedule(self) -> OneCycleLR:
        recipe = self.options.recipe
        peaks = [recipe.rate * group["scale"] for group in self.optimiser.param_groups]
        done = self.progress.epoch * self.steps + self.progress.step
        return schedule(self.optimiser, peaks, recipe.epochs * self.steps, done)

    def _leave_if(self, interrupted: Event) -> None:
        """End between two steps, where the state is whole."""
        if interrupted.is_set():
            self._checkpoint()
            raise KeyboardInterrupt

    def _batches(self) -> Iterator[tuple[int, Tensor]]:
        rng = torch.Generator().manual_seed(self.options.seed * 100_003 + self.progress.epoch)
        order = torch.randperm(len(self.train), generator=rng)
        batch = self.options.recipe.batch
        for step in range(self.progress.step, self.steps):
            yield step, order[step * batch : (step + 1) * batch]

    def _prepare(self, pixels: Pixels, step: int, ids: Tensor) -> tuple[int, Tensor, Tensor]:
        seed = (self.options.seed * 100_003 + self.progress.epoch) * 1_000_003 + step
        rng = torch.Generator().manual_seed(seed)
        images = augment(pixels[ids], self.spec.preprocess.size, self.options.recipe.shift, rng)
        x = self.spec.preprocess.normalise(images).to(memory_format=torch.channels_last)
        return step, x, self.targets[ids]

    def _epoch(self, pixels: Pixels, interrupted: Event) -> None:
        state, recipe = self.progress, self.options.recipe
        self.module.train()
        started = saved = time.monotonic()
        base = state.seconds
        with (
            ThreadPoolExecutor(1) as ahead,
            tqdm(
                total=self.steps * recipe.batch, initial=state.step * recipe.batch, unit="img",
                desc=f"epoch {state.epoch + 1}/{recipe.epochs}", disable=not self.options.progress,
            ) as bar,
        ):  # fmt: skip
            waiting: Future[tuple[int, Tensor, Tensor]] | None = None
            for step, ids in [*self._batches(), (None, None)]:
                ready = waiting
                waiting = (
                    ahead.submit(self._prepare, pixels, step, ids)
                    if step is not None and ids is not None
                    else None
                )
                if ready is None:
                    continue
                self._step(*ready.result())
                state.seconds = base + time.monotonic() - started
                bar.update(recipe.batch)
                top1 = 100 * state.correct / state.seen
                bar.set_postfix_str(f"loss {state.loss / state.seen:.3f} top-1 {top1:.1f}%")
                self._leave_if(interrupted)
                if time.monotonic() - saved > self.options.checkpoint_every:
                    self._checkpoint()
                    saved = time.monotonic()

    def _step(self, step: int, x: Tensor, target: Tensor) -> None:
        state, recipe = self.progress, self.options.recipe
        torch.manual_seed(self.options.seed + state.epoch * self.steps + step)  # for dropout
        device = self.options.device
        x, target = x.to(device, non_blocking=True), target.to(device)
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=self.bf16):
            logits = self.module(x).float()
        loss = F.cross_entropy(logits, target)
        if not torch.isfinite(loss):
            raise ParameterError(
                f"The loss is {loss.item()} at epoch {state.epoch + 1}, step {step}: "
                f"the rate {recipe.rate} is too high. Start again with a lower --rate."
            )
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's stub
        self.optimiser.step()
        self.schedule.step()
        if recipe.rms_clip is not None:
            clip_rms(self.module, recipe.rms_clip)
        state.loss += loss.item() * len(x)
        state.correct += int((logits.argmax(1) == target).sum())
        state.seen += len(x)
        state.step = step + 1

    def _finish_epoch(self, held_out: Pixels | None) -> None:
        state, out = self.progress, self.options.out
        row = {
            "epoch": state.epoch + 1.0,
            "loss": state.loss / state.seen,
            "train_top1": 100 * state.correct / state.seen,
            "seconds": state.seconds,
        }
        if self.validation is not None:
            row["top1"], row["top5"] = evaluate(
                self.module, self.spec.preprocess, self.validation, self.labels, pixels=held_out
            )
        state.history.append(row)
        state.epoch, state.step = state.epoch + 1, 0
        state.loss, state.correct, state.seen = 0.0, 0, 0
        if self.options.progress:
            tqdm.write("  ".join(f"{key} {value:.4g}" for key, value in row.items()))
        if state.epoch in self.options.keep or state.epoch == self.options.recipe.epochs:
            self._save(out / f"epoch-{state.epoch:03d}.safetensors")
        picture = first_layer_picture(self.module)
        if picture is not None:
            picture.save(out / f"filters-epoch-{state.epoch:03d}.png")
        learning_curve(state.history).savefig(out / "learning-curve.png", dpi=120)
        (out / "history.json").write_text(json.dumps(state.history, indent=1), encoding="utf-8")
        self._checkpoint()

    def _metadata(self) -> dict[str, str]:
        return {
            "model": self.spec.name,
            "epoch": str(self.progress.epoch),
            "classes": json.dumps(self.names),
            "labels": json.dumps(self.labels),
            "recipe": json.dumps(asdict(self.options.recipe)),
        }

    def _save(self, path: Path) -> Path:
        save_weights(path, self.module.state_dict(), self._metadata())
        return path

    def _checkpoint(self) -> None:
        tensors = {f"model.{n}": t for n, t in self.module.state_dict().items()}
        for name, parameter in self.module.named_parameters():
            momentum = self.optimiser.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{name}"] = momentum
        metadata = self._metadata() | {"progress": json.dumps(asdict(self.progress))}
        save_weights(self.options.out / "state.safetensors", tensors, metadata)

    def _resume(self) -> None:
        path = self.options.out / "state.safetensors"
        if not path.exists():
            return
        tensors, metadata = read_weights(path)
        expected = self._metadata()
        for key in ("model", "labels", "recipe"):
            if metadata.get(key) != expected[key]:
                raise ParameterError(
                    f"'{self.options.out}' holds a run with another {key}: {metadata.get(key)}, "
                    f"now {expected[key]}. Give the same options, or another --out."
                )
        self.module.load_state_dict(
            {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
        )
        for name, parameter in self.module.named_parameters():
            if f"momentum.{name}" in tensors:
                buffer = tensors[f"momentum.{name}"].to(parameter.device)
                self.optimiser.state[parameter]["momentum_buffer"] = buffer
        self.progress = TrainProgress(**json.loads(metadata["progress"]))
        self.schedule = self._schedule()


__all__ = ["TrainOptions", "Trainer", "export_half", "learning_curve"]
