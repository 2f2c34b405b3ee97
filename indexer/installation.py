"""How this installation was made, and the command that adds an extra to it.

Many modules import this one, and decoding processes start often: what only an error message needs
is imported when there is one.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGE = "sightline"

_EXTRA = re.compile(r"""extra\s*==\s*['"]([\w-]+)['"]""")


def install_command(extra: str) -> str:
    """The shell command that adds ``extra`` to this installation, however it was made: by pipx,
    ``uv tool``, ``uvx``, uv or pip, from a package index, a file or a checkout."""
    environment = Path(sys.prefix)
    receipt = environment / "uv-receipt.toml"
    if receipt.is_file():
        return f"uv tool install {_with_extras({extra} | _extras_of_uv(receipt))}"
    if (environment / "pipx_metadata.json").is_file():
        # pipx leaves packages alone that others have already brought.
        missing = [one for one in requirements(extra) if not _is_installed(_name(one))]
        needed = " ".join(_quoted(one) for one in missing or requirements(extra))
        return f"pipx inject {PACKAGE} {needed}"
    if _is_in_uv_cache(environment):
        source = _with_extras({extra} | installed_extras())
        return f"uvx --from {source} {PACKAGE}"
    if find_spec("pip") is None:
        return f"uv pip install --python {_quoted(sys.executable)} {_with_extras({extra})}"
    return f"{_quoted(sys.executable)} -m pip install {_with_extras({extra})}"


def requirements(extra: str) -> list[str]:
    """The packages of ``extra``, as pip takes them."""
    return [text.partition(";")[0].strip() for text, name in _optional() if name == extra]


def installed_extras() -> set[str]:
    """The extras whose packages are all installed."""
    present: dict[str, bool] = {}
    for text, extra in _optional():
        present[extra] = present.get(extra, True) and _is_installed(_name(text))
    return {extra for extra, all_of_it in present.items() if all_of_it}


def _optional() -> list[tuple[str, str]]:
    """Each requirement of an extra, with the name of the extra."""
    from importlib import metadata

    try:
        lines = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:  # a checkout on sys.path
        return []
    return [(line, found[1]) for line in lines if (found := _EXTRA.search(line))]


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0]


def _is_installed(name: str) -> bool:
    from importlib import metadata

    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _extras_of_uv(receipt: Path) -> set[str]:
    """The extras that ``uv tool install`` was given, which a new call must repeat."""
    import tomllib

    tool: dict[str, Any] = tomllib.loads(receipt.read_text(encoding="utf-8")).get("tool", {})
    own = (one for one in tool.get("requirements", []) if one.get("name") == PACKAGE)
    return {extra for one in own for extra in one.get("extras", [])}


def _is_in_uv_cache(environment: Path) -> bool:
    """Whether this is the temporary environment of ``uvx``."""
    return any(part.startswith(("archive-v", "environments-v")) for part in environment.parts)


def _with_extras(extras: set[str]) -> str:
    """Where this package came from, with ``extras``, as an argument of pip and uv."""
    chosen = f"[{','.join(sorted(extras))}]"
    origin = _origin()
    if origin is None:
        return _quoted(f"{PACKAGE}{chosen}")
    url, editable = origin
    if not editable:
        return _quoted(f"{PACKAGE}{chosen} @ {url}")
    from urllib.parse import unquote, urlsplit
    from urllib.request import url2pathname

    folder = url2pathname(unquote(urlsplit(url).path))
    return f"--editable {_quoted(folder + chosen)}"


def _origin() -> tuple[str, bool] | None:
    """The URL of the file or checkout that was installed (PEP 610), and whether it is editable;
    None for a package index."""
    from importlib import metadata

    try:
        text = metadata.distribution(PACKAGE).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return Path(__file__).resolve().parent.parent.as_uri(), True
    if not text:
        return None
    found = json.loads(text)
    url = str(found["url"])
    if "vcs_info" in found:
        url = f"{found['vcs_info']['vcs']}+{url}"
    return url, bool(found.get("dir_info", {}).get("editable"))


def _quoted(text: str) -> str:
    """``text`` for the shell of this system."""
    if os.name == "nt":
        return f'"{text}"' if re.search(r"[\s\[\]<>]", text) else text
    return shlex.quote(text)
