"""What there is, the README tells: every setting, every command."""

import re
from pathlib import Path

from deconvnet_app.cli.main import app
from deconvnet_app.settings import Settings


def test_every_setting_and_command_is_in_the_readme(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    settings = set(Settings.model_fields)
    commands = {one.name for one in [*app.registered_commands, *app.registered_groups]}
    assert settings <= set(re.findall(r"`(\w+)`", text))
    assert commands <= set(re.findall(r"deconvnet (\w+)", text))
