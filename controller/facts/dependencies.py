"""Which packages a manifest or a lock names, at which version, and from where; and what differs between two of them.

One entry a package. An entry whose version differs has moved; one whose version is the same while its source or its
digest differs has moved too, and nobody has asked for that. A kind of file that is not read here is told apart from one
that says nothing.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

from controller.facts.tree import NotedDependency


class Entry(NamedTuple):
    version: str
    source: str = ""  # digest, address, index: whatever else says what is fetched


Entries = dict[str, Entry]
ASKED_NAME = 3  # characters: a shorter name turns up in any sentence


class Kind(NamedTuple):
    ecosystem: str
    read: Callable[[str], Entries]


def kind_of(path: str) -> Kind | None:
    """None: not read here."""
    name = path.rpartition("/")[2].lower()
    if re.search(r"(?:^|/)(?:requirements|reqs|deps|dependencies)/[^/]+\.(?:txt|in)$", path.lower()):
        return Kind("pypi", _requirements)
    return next((kind for pattern, kind in _KINDS if re.fullmatch(pattern, name)), None)


def moved_between(path: str, before: str | None, after: str | None, task: str) -> Iterator[NotedDependency]:
    """Raises `config_parts.Unreadable` for text that is not what its name says."""
    kind = kind_of(path)
    if kind is None:
        return
    old, new = kind.read(before or ""), kind.read(after or "")
    for name in sorted(old.keys() | new.keys()):
        if (what := _difference(old.get(name), new.get(name))) is None:
            continue
        same_source = name in old and name in new and _only_version(old[name], new[name])
        asked = names(task, name) and (what != "moved" or same_source)
        yield NotedDependency(ecosystem=kind.ecosystem, path=path, what=what, name=name, asked=asked)


def names(task: str, name: str) -> bool:
    """Whether the task names this package, as a word of its own; spelled with dashes, dots or underscores."""
    whole = name.lower()
    short = re.split(r"[:/]", whole)[-1] if not whole.startswith("@") else whole  # Maven's, Go's and Composer's
    return any(len(one) >= ASKED_NAME and _stands_in(one, task.lower()) for one in {whole, short})


def _stands_in(name: str, text: str) -> bool:
    words = "[-_. ]".join(re.escape(part) for part in re.split(r"[-_.]+", name))
    return re.search(rf"(?<![\w./@-]){words}(?![\w/-])", text) is not None


def _difference(old: Entry | None, new: Entry | None) -> Literal["added", "removed", "moved"] | None:
    if old is None or new is None:
        return "added" if old is None else "removed"
    return "moved" if old != new else None


def _only_version(old: Entry, new: Entry) -> bool:
    """Another version from the same place. Digests move with versions; addresses and indexes do not."""
    return old.version != new.version and _place(old.source) == _place(new.source)


def _place(source: str) -> str:
    """The hosts of the addresses in it."""
    return " ".join(sorted(set(re.findall(r"(?:[a-z+]+://|git@)([^/\s\"':]{1,200})", source))))


# --- manifests --------------------------------------------------------------------------------------------------------

_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,100})\s*(\[[^\]]{0,200}\])?\s*(.{0,300})")


def _requirement(line: str) -> tuple[str, Entry] | None:
    """PEP 508, or an option of pip, which is a source by itself. None: no line of meaning."""
    text = line.partition(" #")[0].strip()
    if not text or text.startswith("#"):
        return None
    found = _REQUIREMENT.fullmatch(text)
    if found is None or "://" in text.partition("@")[0]:
        return text.partition(" ")[0] or text, Entry("", text)
    version, _, rest = found[3].partition("--hash")
    version, _, address = version.partition("@") if version.startswith("@") else (version, "", "")
    return _python_name(found[1]), Entry(version.strip(" \\"), f"{found[2] or ''}{rest}{address}".strip())


def _python_name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirements(text: str) -> Entries:
    joined = re.sub(r"\\\n", " ", text)
    return _of_lines(joined.splitlines(), _requirement)


def _of_lines(lines: Iterable[str], read: Callable[[str], tuple[str, Entry] | None]) -> Entries:
    found: Entries = {}
    for line in lines:
        if (one := read(line)) is not None:
            _put(found, *one)
    return found


def _put(found: Entries, name: str, entry: Entry) -> None:
    """A name that stands twice, such as once a platform, is one entry with all that it says."""
    known = found.get(name)
    found[name] = (
        entry if known is None else Entry(f"{known.version} {entry.version}", f"{known.source} {entry.source}")
    )


def _pyproject(text: str) -> Entries:
    whole = tomllib.loads(text)
    project, tool = whole.get("project", {}), whole.get("tool", {})
    lists = [project.get("dependencies", []), *project.get("optional-dependencies", {}).values()]
    lists += [whole.get("build-system", {}).get("requires", []), *whole.get("dependency-groups", {}).values()]
    lists += [*tool.get("pdm", {}).get("dev-dependencies", {}).values(), tool.get("uv", {}).get("dev-dependencies", [])]
    found = _of_lines((line for one in lists for line in one if isinstance(line, str)), _requirement)
    poetry = tool.get("poetry", {})
    groups = [group.get("dependencies", {}) for group in poetry.get("group", {}).values()]
    for table in (poetry.get("dependencies", {}), poetry.get("dev-dependencies", {}), *groups):
        _put_table(found, table)
    _put_table(found, {f"source {name}": value for name, value in tool.get("uv", {}).get("sources", {}).items()})
    return found


def _put_table(found: Entries, table: dict[str, Any]) -> None:
    for name, value in table.items():
        if name.lower() != "python":
            _put(found, _python_name(name), _table_entry(value))


def _table_entry(value: object) -> Entry:
    if isinstance(value, dict):
        rest = {key: inner for key, inner in value.items() if key != "version"}
        return Entry(str(value.get("version", "")), json.dumps(rest, sort_keys=True, default=str) if rest else "")
    return Entry(str(value))


def _pipfile(text: str) -> Entries:
    whole, found = tomllib.loads(text), Entries()
    for section in ("packages", "dev-packages"):
        _put_table(found, whole.get(section, {}))
    return found | {f"source {one.get('name')}": Entry("", str(one.get("url"))) for one in whole.get("source", [])}


def _pipfile_lock(text: str) -> Entries:
    whole = json.loads(text or "{}")
    tables = [whole.get("default", {}), whole.get("develop", {})]
    return {_python_name(name): _table_entry(value) for table in tables for name, value in table.items()}


def _setup_cfg(text: str) -> Entries:
    wanted, lines = False, []
    for line in text.splitlines():
        if line[:1] not in (" ", "\t", ""):
            key, _, rest = line.partition("=")
            wanted = key.strip() in ("install_requires", "setup_requires", "tests_require") or "extras_require" in line
            lines += [rest] if wanted and rest.strip() else []
        elif wanted:
            lines.append(line.strip().partition("=")[2] if re.match(r"\s*\w+ *= *$", line) else line.strip())
    return _of_lines(lines, _requirement)


_NPM_TABLES = (
    "dependencies",
    "devDependencies",
    "peerDependencies",
    "optionalDependencies",
    "overrides",
    "resolutions",
)


def _package_json(text: str) -> Entries:
    whole, found = json.loads(text or "{}"), Entries()
    for table in _NPM_TABLES:
        for name, value in whole.get(table, {}).items():
            plain = isinstance(value, str) and re.fullmatch(r"[\s\d.^~<>=*xX|&\w-]{0,200}", value)
            _put(found, name, Entry(value) if plain and isinstance(value, str) else Entry("", json.dumps(value)))
    return found


def _cargo(text: str) -> Entries:
    whole, found = tomllib.loads(text), Entries()
    targets = [target for target in whole.get("target", {}).values() if isinstance(target, dict)]
    for holder in (whole, whole.get("workspace", {}), *targets):
        for table in ("dependencies", "dev-dependencies", "build-dependencies"):
            for name, value in holder.get(table, {}).items():
                _put(found, name, _table_entry(value))
    for table in ("patch", "replace"):
        found |= {f"{table} {name}": Entry("", str(value)) for name, value in whole.get(table, {}).items()}
    return found


def _go_mod(text: str) -> Entries:
    found, block = Entries(), ""
    for line in text.splitlines():
        words = line.partition("//")[0].split()
        if not words:
            continue
        if words[-1] == "(" or words[0] == ")":
            block = words[0] if words[-1] == "(" else ""
            continue
        verb, rest = (block, words) if block else (words[0], words[1:])
        if verb == "require" and len(rest) > 1:
            _put(found, rest[0], Entry(rest[1]))
        elif verb in ("replace", "exclude") and rest:
            _put(found, f"{verb} {rest[0]}", Entry("", " ".join(rest[1:])))
    return found


_GEM = re.compile(r"\s*gem\s+[\"']([^\"']{1,100})[\"']\s*,?\s*(?:[\"']([^\"']{0,60})[\"'])?(.{0,300})")
_MAVEN = re.compile(r"<(?:dependency|parent|plugin)>(.{0,4000}?)</(?:dependency|parent|plugin)>", re.DOTALL)
_GRADLE = re.compile(r"[\"']([\w.-]{1,120}:[\w.-]{1,120})(?::([^\"'@]{0,60}))?[^\"']{0,60}[\"']")
_NUGET = re.compile(r"<Package(?:Reference|Version)\s([^>]{1,600})>")
_ATTRIBUTE = re.compile(r"(Include|Update|Version|VersionOverride)\s*=\s*\"([^\"]{0,150})\"")


def _gemfile(text: str) -> Entries:
    found: Entries = {}
    for line in text.splitlines():
        if one := _GEM.match(line):
            _put(found, one[1], Entry(one[2] or "", one[3].strip(" ,")))
        elif line.strip().startswith("source"):
            _put(found, "source", Entry("", line.strip()))
    return found


def _pom(text: str) -> Entries:
    found: Entries = {}
    for block in _MAVEN.findall(text):
        parts = dict(re.findall(r"<(groupId|artifactId|version|scope|type)>\s*([^<]{0,200}?)\s*</", block))
        name = f"{parts.get('groupId', '')}:{parts.get('artifactId', '')}"
        _put(found, name, Entry(parts.get("version", ""), parts.get("scope", "")))
    return found | {f"repository {url}": Entry("", url) for url in re.findall(r"<url>([^<]{1,300})</url>", text)}


def _gradle(text: str) -> Entries:
    found: Entries = {}
    for name, version in _GRADLE.findall(text):
        _put(found, name, Entry(version))
    return found


def _version_catalog(text: str) -> Entries:
    """libs.versions.toml: versions stand apart from the libraries that refer to them."""
    whole, found = tomllib.loads(text), Entries()
    for table in ("versions", "libraries", "plugins"):
        for name, value in whole.get(table, {}).items():
            named = str(value.get("module") or value.get("id") or name) if isinstance(value, dict) else name
            _put(found, named, Entry(json.dumps(value, sort_keys=True, default=str)))
    return found


def _nuget(text: str) -> Entries:
    found: Entries = {}
    for inside in _NUGET.findall(text):
        said = dict(_ATTRIBUTE.findall(inside))
        name = said.pop("Include", None) or said.pop("Update", "")
        _put(found, name, Entry(" ".join(said.values())))
    return found


def _composer(text: str) -> Entries:
    whole = json.loads(text or "{}")
    tables = [whole.get("require", {}), whole.get("require-dev", {})]
    found = {name: Entry(str(version)) for table in tables for name, version in table.items()}
    return found | ({"repositories": Entry("", json.dumps(whole["repositories"]))} if "repositories" in whole else {})


# --- locks ------------------------------------------------------------------------------------------------------------


def _toml_lock(text: str) -> Entries:
    """poetry.lock, uv.lock, pdm.lock, pylock.toml, Cargo.lock: a list of tables with name and version."""
    whole, found = tomllib.loads(text), Entries()
    for one in [*whole.get("package", []), *whole.get("packages", [])]:
        rest = {key: one[key] for key in ("source", "checksum", "files", "wheels", "sdist", "url", "vcs") if key in one}
        source = json.dumps(rest, sort_keys=True, default=str)
        _put(found, _python_name(str(one.get("name"))), Entry(str(one.get("version", "")), source))
    return found


def _npm_lock(text: str) -> Entries:
    whole, found = json.loads(text or "{}"), Entries()
    for path, one in whole.get("packages", {}).items():
        if path and isinstance(one, dict):
            _put(found, path.rpartition("node_modules/")[2], _npm_locked(one))
    if not whole.get("packages"):
        for name, one in _npm_nested(whole.get("dependencies", {})):
            _put(found, name, _npm_locked(one))
    return found


def _npm_nested(table: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, one in table.items():
        yield name, one
        yield from _npm_nested(one.get("dependencies", {}))


def _npm_locked(one: dict[str, Any]) -> Entry:
    scripts = " has-install-script" if one.get("hasInstallScript") else ""
    return Entry(str(one.get("version", "")), f"{one.get('resolved', '')} {one.get('integrity', '')}{scripts}")


def _composer_lock(text: str) -> Entries:
    whole = json.loads(text or "{}")
    packages = [*whole.get("packages", []), *whole.get("packages-dev", [])]
    return {str(one["name"]): Entry(str(one.get("version")), json.dumps(one.get("dist"))) for one in packages}


_YARN_HEAD = re.compile(r"\"?(@?[^@\s\",]{1,200})@")


def _yarn_lock(text: str) -> Entries:
    found: Entries = {}
    name, version, rest = "", "", list[str]()
    for line in [*text.splitlines(), "end"]:
        if line and not line[0].isspace() and not line.startswith("#"):
            if name:
                _put(found, name, Entry(version, " ".join(rest)))
            head = _YARN_HEAD.match(line)
            name, version, rest = (head[1] if head else ""), "", []
        elif (words := line.split()) and words[0].rstrip(":") == "version":
            version = words[-1].strip('"')
        elif words and words[0].rstrip(":") in ("resolved", "integrity", "checksum", "resolution"):
            rest.append(words[-1])
    return found


_PNPM = re.compile(r"  ['\"]?/?(@?[^@\s'\"(]{1,200})[@/](\d[^\s:'\"(]{0,80})[^:]{0,400}:\s*")


def _pnpm_lock(text: str) -> Entries:
    found: Entries = {}
    name, version, packages = "", "", False
    for line in text.splitlines():
        if line and not line[0].isspace():
            packages = line.startswith("packages:")
        elif packages and (head := _PNPM.fullmatch(line)):
            name, version = head[1], head[2]
            _put(found, name, Entry(version))
        elif packages and name and "resolution:" in line:
            found[name] = Entry(found[name].version, f"{found[name].source} {line.strip()}".strip())
    return found


def _go_sum(text: str) -> Entries:
    found: Entries = {}
    for words in (line.split() for line in text.splitlines()):
        if len(words) == 3:  # noqa: PLR2004 - module, version, digest
            _put(found, words[0], Entry(words[1], words[2]))
    return found


def _gemfile_lock(text: str) -> Entries:
    found = {one[0]: Entry(one[1]) for one in re.findall(r"^ {4}([^\s(]{1,100}) \(([^)]{1,80})\)$", text, re.MULTILINE)}
    return found | {
        f"remote {url}": Entry("", url) for url in re.findall(r"^ {2}remote: (\S{1,300})$", text, re.MULTILINE)
    }


_KINDS = (
    (
        r"(?:requirements|constraints).*\.(?:txt|in|lock)|.*requirements\.txt|(?:[\w.]+[-_])?(?:reqs|deps|dependencies)(?:[-_.]\w+)?\.(?:txt|in)",
        Kind("pypi", _requirements),
    ),
    (r"pyproject\.toml", Kind("pypi", _pyproject)),
    (r"setup\.cfg", Kind("pypi", _setup_cfg)),
    (r"pipfile", Kind("pypi", _pipfile)),
    (r"pipfile\.lock", Kind("pypi", _pipfile_lock)),
    (r"(?:poetry|uv|pdm)\.lock|pylock.*\.toml", Kind("pypi", _toml_lock)),
    (r"package\.json", Kind("npm", _package_json)),
    (r"package-lock\.json|npm-shrinkwrap\.json", Kind("npm", _npm_lock)),
    (r"yarn\.lock", Kind("npm", _yarn_lock)),
    (r"pnpm-lock\.yaml", Kind("npm", _pnpm_lock)),
    (r"cargo\.toml", Kind("crates", _cargo)),
    (r"cargo\.lock", Kind("crates", _toml_lock)),
    (r"go\.mod", Kind("go", _go_mod)),
    (r"go\.sum", Kind("go", _go_sum)),
    (r"pom\.xml", Kind("maven", _pom)),
    (r"build\.gradle(?:\.kts)?", Kind("maven", _gradle)),
    (r".*\.versions\.toml", Kind("maven", _version_catalog)),
    (r"gemfile|gems\.rb", Kind("rubygems", _gemfile)),
    (r"gemfile\.lock|gems\.locked", Kind("rubygems", _gemfile_lock)),
    (r"composer\.json", Kind("packagist", _composer)),
    (r"composer\.lock", Kind("packagist", _composer_lock)),
    (r".*\.(?:cs|fs|vb)proj|directory\.packages\.props", Kind("nuget", _nuget)),
)
