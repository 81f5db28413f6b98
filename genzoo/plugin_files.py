"""Plugin files: local Python that registers parts. Which of them are executed, how, and what a run keeps of them.

A file is code: it is executed where the user names it (`--plugin`, `plugins=[...]`), where `genzoo run` is given a
recipe that names it, and where its sha256 is one that a run of this user's has recorded in this user's cache.
(Installed packages: see the registry.)
"""

import ast
import hashlib
import importlib.util
import logging
import os
import shlex
import sys
import traceback
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path

from genzoo.cache import cache_dir
from genzoo.errors import UserError, reason
from genzoo.files import replacing, sha256
from genzoo.installed import outside
from genzoo.registry import KINDS, Registry

log = logging.getLogger("genzoo")
MAX_BYTES, MAX_FILES = 64 << 20, 2000  # of a plugin: whoever names a folder of data is told

executed: dict[str, str] = {}  # path -> digest of everything that has been executed in this process


def load_file(path: str | Path) -> None:
    """Execute a plugin file (or a folder with an `__init__.py`) once, so that its parts are registered.

    A file may say which genzoo it was written for: `REQUIRES_GENZOO = ">=0.1,<0.2"`. UserError when it is missing,
    asks for another genzoo, fails while it runs, or registers nothing; then nothing of it stays registered. A file that
    has changed since it was executed takes its own place.
    """
    path = Path(path).resolve()
    file = _file_of(path)
    if not os.path.isfile(file):
        why = " (a folder needs an __init__.py)" if path.is_dir() else ""
        raise UserError(
            f"plugin {path}: no such file{why}; put it back, or correct --plugin or `plugins:` in the recipe "
            "(--plugin FILE says where it is now)"
        )
    if file.suffix != ".py":
        raise UserError(f"plugin {path}: not a Python file (its name must end in .py)")
    digest = digest_of(path)
    name = _module_of(digest)
    if name in sys.modules:  # also when the same file lies in two places, such as the copy that a run keeps
        executed[str(path)] = digest
        return
    if (versions := _required(file)) and (problem := outside(versions)):
        raise UserError(f"plugin {path}: {problem} (its REQUIRES_GENZOO)")
    if str(path) in executed:
        _forget(_module_of(executed.pop(str(path))), str(path))
    folder = [str(path)] if path.is_dir() else None
    loader = _FromSource(name, str(file))
    spec = importlib.util.spec_from_file_location(name, file, loader=loader, submodule_search_locations=folder)
    module = importlib.util.module_from_spec(spec)
    Registry.loading = str(path)
    sys.modules[name] = module  # before execution, so that pydantic can resolve the module's annotations
    try:
        loader.exec_module(module)
        if not any(entry.owner == str(path) for registry in KINDS.values() for entry in registry.entries.values()):
            example = '`@genzoo.DECODERS.register("mine")`'
            packages = (folder for folder in list(path.parents)[:2] if (folder / "pyproject.toml").is_file())
            install = "".join(f", or install its package: pip install -e {shlex.quote(str(p))}" for p in packages)
            raise UserError(f"plugin {path} registers nothing: put e.g. {example} above the class{install}")
    except BaseException as error:
        _forget(name, str(path))
        if isinstance(error, UserError | KeyboardInterrupt):
            raise
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else _line_in(path, error)
        raise UserError(f"plugin {path}{line}: cannot be loaded: {reason(error)}{_sibling(file, error)}") from error
    finally:
        Registry.loading = ""
    executed[str(path)] = digest


def load_named(recipe: Path, listed: list[str], given: list[str], execute: bool) -> list[str]:
    """Execute the plugin files of a recipe as far as that is allowed; a sentence for each that was not executed.

    recipe: its file; beside a run's lie copies of its plugin files. listed: by the recipe, absolute. given: by the
    user, in this call. execute: the user has said to run this recipe.
    """
    for path in given:
        load_file(path)
    passed_over = []
    for path, copy in copies(recipe.parent, listed).items():
        if _module_of(executed.get(path, "")) in sys.modules:
            continue
        found = [place for place in ((path, copy) if execute else (copy, path)) if _is_code(place)]
        if execute:
            place = found[0] if found else path
            log.info("plugin %s is executed, as %s names it", place, recipe)
            load_file(place)
        elif known := next((place for place in found if _is_known(digest_of(place))), None):
            load_file(known)
        elif found:
            passed_over.append(
                f"plugin {found[0]} was not executed: it is code, and no run of yours has executed it before; "
                f"look at it, and if you trust it add --plugin {shlex.quote(str(found[0]))}"
            )
        else:
            passed_over.append(f"plugin {path} is not there: --plugin FILE says where it is now")
    return passed_over


def copies(folder: Path, listed: list[str]) -> dict[str, str]:
    """Plugin path -> where the run in `folder` keeps its copy."""
    places: dict[str, str] = {}
    for path in dict.fromkeys(listed):
        place, num = folder / "plugins" / Path(path).name, 2
        while str(place) in places.values():
            place, num = folder / "plugins" / f"{num}-{Path(path).name}", num + 1
        places[path] = str(place)
    return places


def keep(folder: Path, listed: list[str]) -> dict[str, str]:
    """Copy the plugin files that a run has executed into its folder, and record them as this user's; path -> sha256.

    A copy of another content that is there already stays, under its digest. UserError when a file is no longer what
    was executed.
    """
    kept = {}
    for path, place in copies(folder, listed).items():
        source, copy = (Path(path) if path in executed else Path(place)), Path(place)
        digest = executed.get(str(source))
        if digest is None:  # not executed, and not needed
            continue
        if digest_of(source) != digest:
            raise UserError(f"plugin {source} has changed since this run executed it; start the run again")
        kept[path] = digest
        _record(digest, source)
        if os.path.exists(copy):
            if (other := digest_of(copy)) == digest:
                continue
            copy.rename(copy.with_name(f"{other[:12]}-{copy.name}"))
        copy.parent.mkdir(parents=True, exist_ok=True)
        for file in _files(source):
            target = copy / file.relative_to(source) if source.is_dir() else copy
            with replacing(target) as written:
                written.write(file.read_bytes())
    return kept


def digest_of(path: str | Path) -> str:
    """sha256 of a plugin file; of a folder, of the names and contents of its files."""
    path, files = Path(path), _files(Path(path))
    if not path.is_dir():
        return sha256(path)
    lines = [f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n" for file in files]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _file_of(path: str | Path) -> Path:
    return Path(path) / "__init__.py" if os.path.isdir(path) else Path(path)


def _is_code(path: str) -> bool:
    return os.path.isfile(_file_of(path)) and _file_of(path).suffix == ".py"


def _files(path: Path) -> list[Path]:
    """The files of a plugin, without what Python and editors leave in a folder; UserError where they cannot be code."""
    found, num_bytes = [], 0
    for place, folders, names in os.walk(path) if path.is_dir() else [(path.parent, [], [path.name])]:
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        for file in (Path(place) / name for name in names if not name.startswith(".")):
            if file.is_file():
                found.append(file)
                num_bytes += file.stat().st_size
        if num_bytes > MAX_BYTES or len(found) > MAX_FILES:
            raise UserError(f"plugin {path} is more than code ({len(found)} files, {num_bytes >> 20} MB and more)")
    return sorted(found)


def _is_known(digest: str) -> bool:
    """Whether a run of this user's has executed a file of this content."""
    try:
        return (cache_dir() / "plugins" / digest).stat().st_uid == getattr(os, "getuid", lambda: 0)()
    except OSError:
        return False


def _record(digest: str, path: Path) -> None:
    try:
        with replacing(cache_dir() / "plugins" / digest) as file:
            file.write(f"{path}\n".encode("utf-8", "surrogateescape"))
    except OSError as error:
        log.warning("%s cannot be recorded in the cache (%s): to load this run, name it with --plugin", path, error)


class _FromSource(SourceFileLoader):
    """Compiles the file itself: a `__pycache__` that came with it could hold any other code."""

    def get_code(self, fullname: str):
        file = self.get_filename(fullname)
        return self.source_to_code(self.get_data(file), file)


class _Modules(MetaPathFinder):
    """Modules inside plugin folders, from their source as well."""

    def find_spec(self, name: str, path=None, target=None):
        if not name.startswith("genzoo_plugin_") or path is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _FromSource(name, spec.origin)
        return spec


sys.meta_path.insert(0, _Modules())


def _module_of(digest: str) -> str:
    """By its content alone: a file that was given another name is the same plugin."""
    return f"genzoo_plugin_{digest[:16]}"


def _forget(name: str, owner: str) -> None:
    """Take back a plugin: what it registered, and its modules."""
    for module in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
        del sys.modules[module]
    for registry in KINDS.values():
        registry.forget({part for part, entry in registry.entries.items() if entry.owner == owner})


def _required(file: Path) -> str:
    """The value of REQUIRES_GENZOO, read without executing the file."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # executing it says what is wrong, with the line
        return ""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name) and target.id == "REQUIRES_GENZOO":
                    return str(node.value.value)
    return ""


def _line_in(path: Path, error: BaseException) -> str:
    """The plugin's own line that an error came from."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(path))]
    return f", line {frames[-1].lineno}" if frames else ""


def _sibling(file: Path, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and (file.parent / f"{error.name}.py").is_file():
        return f"; {error.name}.py is beside it: name the folder as the plugin and use `from .{error.name} import ...`"
    return ""


def parts_of(path: str | Path) -> list[str]:
    """kind/name of every part that a loaded plugin file or folder has registered."""
    digest = executed.get(str(Path(path).resolve()))
    owners = {owner for owner, known in executed.items() if known == digest}
    return [
        f"{kind}/{name}"
        for kind, registry in KINDS.items()
        for name, entry in registry.entries.items()
        if entry.owner in owners
    ]
