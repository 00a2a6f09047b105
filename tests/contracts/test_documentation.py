"""README and docs/ name every setting and every command."""

import re
from pathlib import Path

from deconvnet_app.cli.main import app
from deconvnet_app.settings import Settings


def test_every_setting_and_command_is_documented(root: Path) -> None:
    pages = [root / "README.md", *(root / "docs").glob("*.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    settings = set(Settings.model_fields)
    commands = {one.name for one in [*app.registered_commands, *app.registered_groups]}
    assert settings <= set(re.findall(r"`(\w+)`", text))
    assert commands <= set(re.findall(r"deconvnet (\w+)", text))
