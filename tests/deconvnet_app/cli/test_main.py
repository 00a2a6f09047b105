"""The command line: every command has help with an example; every error is one message."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import Field
from torch import Tensor
from typer.testing import CliRunner

from deconvnet import methods
from deconvnet.methods import Explanation, Method, Params
from deconvnet_app.cli import main as cli

COMMANDS = [
    "demo",
    "serve",
    "link",
    "index",
    "project",
    "figure",
    "occlude",
    "filters",
    "train",
    "evaluate",
    "models",
    "explain",
]


def help_of(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, [*arguments, "--help"], prog_name="deconvnet")
    assert result.exit_code == 0, result.output
    return result.output


def run(capsys: pytest.CaptureFixture[str], monkeypatch: Any, *arguments: Any) -> tuple[int, str]:
    """The exit code and what was said on stderr."""
    monkeypatch.setattr(sys, "argv", ["deconvnet", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    code = left.value.code
    return (0 if code is None else int(code)), capsys.readouterr().err


def test_the_help_lists_every_command():
    listed = [line.split()[0] for line in help_of().splitlines() if line.startswith("  ")]
    assert set(COMMANDS) <= set(listed)


@pytest.mark.parametrize(
    "command",
    [(name,) for name in COMMANDS] + [("figure", "2"), ("explain", "occlusion")],
    ids=" ".join,
)
def test_each_command_shows_an_example_of_itself(command: tuple[str, ...]):
    text = help_of(*command)
    example = text[text.index("Example:") :].splitlines()[1]
    assert example.strip().startswith(f"deconvnet {command[0]}")


def test_the_examples_give_options_that_there_are():
    for name in COMMANDS:
        text = help_of(name)
        options, examples = text.split("Example:")
        for word in shlex.split(examples):
            if word.startswith("--") and name not in ("figure", "explain"):
                assert f"{word} " in options, f"{name} {word}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["models", "vgg61"], "Model 'vgg61' is not in the zoo; nearest: vgg1"),
        (["models", "nowhere.py:build"], "Model file 'nowhere.py' does not exist"),
        (["filters", "zfnet64", "conv9", "--weights", "none"], "Layer 'conv9' is not in zfnet64"),
        (["filters", "zfnet64", "--weights", "no.pth"], "Weights 'no.pth' do not exist"),
        (
            ["project", "zfnet64", "no.png", "conv1:0", "--weights", "none"],
            "'no.png' does not exist",
        ),
        (["project", "zfnet64", "{photo}", "conv1", "--weights", "none"], "not a unit"),
        (["project", "zfnet64", "{photo}", "conv1:999", "--weights", "none"], "channels 0 to 63"),
        (
            ["project", "zfnet64", "{photo}", "conv1:1", "--rule", "dream"],
            "Method 'dream' is unknown",
        ),
        (["project", "zfnet64", "{text}", "conv1:1", "--weights", "none"], "cannot be read"),
        (["occlude", "zfnet64", "{photo}", "--stride", "99"], "stride 99 is larger than size 32"),
        (
            ["occlude", "vgg16", "{photo}", "--class", "kat", "--weights", "none"],
            "'kat' is not one",
        ),
        (["index", "zfnet64", "no", "--out", "{out}", "--weights", "none"], "'no' does not exist"),
        (
            [
                "index",
                "zfnet64",
                "{images}",
                "--out",
                "{out}",
                "--weights",
                "none",
                "--group-by",
                "(",
            ],
            "not a regular expression",
        ),
        (["figure", "2", "no"], "no index in 'no'"),
        (["figure", "2", "no", "--out", "figure.docx"], "ends in '.docx'"),
        (["train", "zfnet64", "{images}/warm", "--out", "{out}"], "has 0 labels"),
        (["train", "zfnet64", "{images}", "--out", "{out}", "--keep", "a"], "--keep is 'a'"),
        (["evaluate", "zfnet64", "{images}", "--weights", "none"], "does not know its classes"),
        (["serve", "--model", "mine"], "--model is 'mine', expected NAME=VALUE"),
        (["serve", "--host", "0.0.0.0"], "Listening on 0.0.0.0 needs --allowed-host"),
        (
            ["serve", "--host", "0.0.0.0", "--allowed-host", "a.lab", "--no-auth"],
            "Leave out --no-auth, or listen on 127.0.0.1",
        ),
        (["serve", "--allowed-host", "http://a.lab/"], "allowed_hosts.0: String should match"),
        (["link", "--data-dir", "{out}"], "No server runs on data directory"),
        (["serve", "--index", "no"], "There is no index in 'no'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error_is_one_message_and_exit_code_2(
    arguments, said, capsys, monkeypatch, photo: Path, image_folder: Path, tmp_path: Path
):
    text = tmp_path / "text.png"
    text.write_text("no picture")
    places = {"photo": photo, "images": image_folder, "text": text, "out": tmp_path / "out"}
    code, err = run(capsys, monkeypatch, *(part.format(**places) for part in arguments))
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert "defect" not in err


def test_a_mistyped_command_is_a_usage_error(capsys, monkeypatch):
    code, err = run(capsys, monkeypatch, "indx")
    assert code == 2
    assert "No such command 'indx'" in err


class DummyParams(Params):
    """One parameter of its own."""

    strength: int = Field(3, ge=1, description="How much of it.", json_schema_extra={"unit": "px"})


class Dummy(Method):
    """A method that gives back the image's mean, times its parameter."""

    name: ClassVar[str] = "dummy"
    title: ClassVar[str] = "Dummy method"
    source: ClassVar[str] = "this test"
    explains = frozenset({"unit"})
    needs_target: ClassVar[bool] = True
    Params = DummyParams

    def explain(self, net: Any, x: Tensor, params: Any, run: Any) -> Explanation:
        del net
        value = np.full((4, 4), float(x.mean()) * params.strength, np.float32)
        picture = np.zeros((4, 4, 3), np.uint8)
        return Explanation(
            {"map": value}, {"heatmap": picture}, {"unit": run.target.unit}, "a line"
        )


@pytest.fixture
def dummy() -> Iterator[Dummy]:
    method = Dummy()
    methods.register(method)
    yield method
    methods.unregister(method.name)


def test_a_registered_method_is_a_command_with_its_parameters(
    dummy, capsys, monkeypatch, photo: Path, tmp_path: Path
):
    assert "dummy" in help_of("explain")
    text = help_of("explain", "dummy")
    assert "Dummy method." in text
    assert "--strength" in text
    assert "How much of it.  [default: 3]" in text
    assert "--class" not in text

    command = ["explain", "dummy", "zfnet64", photo, "--unit", "conv1:2", "--weights", "none"]
    code, err = run(capsys, monkeypatch, *command, "--strength", "5", "--out", tmp_path)
    assert code == 0, err
    assert {path.name for path in tmp_path.iterdir()} == {"heatmap.png", "arrays.npz", "facts.json"}

    code, err = run(capsys, monkeypatch, *command, "--strength", "0", "--out", tmp_path)
    assert code == 2
    assert "strength of dummy is 0" in err


def test_a_start_does_not_wait_for_what_few_networks_need() -> None:
    script = "import sys, deconvnet_app.main; print('torchvision' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "False"


def test_a_full_disk_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write() -> None:
        with Path("/dev/full").open("wb", buffering=0) as stream:
            stream.write(b"x")

    monkeypatch.setattr(cli, "app", write)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "No space left on device. Make room" in capsys.readouterr().err
