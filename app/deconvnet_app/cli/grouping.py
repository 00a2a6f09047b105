"""Which images of a dataset belong together: tiles of one photograph, frames of one video."""

import re
from collections.abc import Callable
from pathlib import PurePosixPath

from deconvnet.errors import ParameterError

FOLDER = "folder"


def grouping(how: str) -> Callable[[str], str | None]:
    """A function from an image's path to its group.

    Args:
        how: "folder", or a regular expression whose first parenthesis is the group; a path that
            does not match has none.

    Raises:
        ParameterError: the expression is broken or has no parenthesis.
    """
    if how == FOLDER:
        return lambda path: str(PurePosixPath(path).parent)
    try:
        pattern = re.compile(how)
    except re.error as error:
        raise ParameterError(f"--group-by '{how}' is not a regular expression: {error}.") from error
    if not pattern.groups:
        raise ParameterError(
            f"--group-by '{how}' has no parenthesis, such as '(.*)_[0-9]+[.]png' has; "
            "or give 'folder'."
        )

    def group(path: str) -> str | None:
        match = pattern.search(path)
        return match.group(1) if match else None

    return group
