"""Steps that no revert takes back: data dropped, rewritten or deleted, resources destroyed.

Read by line patterns over what the change added, in every file that is neither documentation nor a test. What a
migration keeps for its own way back (`def downgrade`, `exports.down`, `-- +goose Down`, `*.down.sql`) is no step of the
change. SQL statements are looked at whole, for a DELETE has its WHERE on the next line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from controller.facts.languages import Language, language_of
from controller.facts.tree import ChangedFile, Noted

MOST_CHARS = 2_000  # of a line
MOST_STATEMENT = 4_000  # characters of an SQL statement
_I = re.IGNORECASE
_NAME = r"[\w.\"'`\[\]{}$]{1,100}"
_SQL = (
    ("drop", re.compile(
        r"\bdrop\s+(?:table|database|schema|column|tablespace|keyspace|collection"
        r"|materialized\s+view)\b", _I)),
    ("truncate", re.compile(rf"\btruncate\s+(?:table\s+)?(?:only\s+)?{_NAME}\s*(?:;|,|\"|'|$|cascade|restart)", _I)),
    ("drop-column", re.compile(
        rf"\balter\s+table\s+(?:if\s+exists\s+)?(?:only\s+)?{_NAME}\s[^;]{{0,1000}}\bdrop\s+(?!constrain"
        rf"t|default|not\b|index|key\b)", _I)),
    ("rename", re.compile(rf"\balter\s+table\s+(?:if\s+exists\s+)?(?:only\s+)?{_NAME}\s[^;]{{0,1000}}\brename\b", _I)),
    ("change-type", re.compile(
        rf"\balter\s+table\s+{_NAME}\s[^;]{{0,1000}}\b(?:alter\s+column|modify(?:\s+column)?)\s+{_NAME}\s"
        rf"+(?:set\s+data\s+)?type\b", _I)),
)  # fmt: skip
_DELETE = re.compile(rf"\bdelete\s+from\s+(?:only\s+)?{_NAME}", _I)
_UPDATE = re.compile(rf"\bupdate\s+(?:only\s+)?{_NAME}\s+set\s", _I)
_WHERE = re.compile(r"\b(?:where|using|limit)\b", _I)
_CODE = (
    ("django", re.compile(r"\bmigrations\.(?:RemoveField|DeleteModel|RenameField|RenameModel|AlterModelTable)\b")),
    ("alembic", re.compile(
        r"\bop\.(?:drop_table|drop_column|rename_table)\(|\bop\.alter_column\([^#]{0,300}\b(?:new_colum"
        r"n_name|type_)\s*=|\bbatch_op\.drop_column\(")),
    ("rails", re.compile(
        r"^\s*(?:t\.remove|drop_table|remove_columns?|rename_column|rename_table"
        r"|remove_reference|drop_join_table|change_column)\b")),
    ("knex", re.compile(
        r"\.(?:dropTable|dropTableIfExists|dropColumns?|renameColumn|renameTable"
        r"|dropSchema|removeColumn)\(")),
    ("liquibase", re.compile(
        r"<(?:dropTable|dropColumn|renameColumn|renameTable|delete)\b|\b(?:dropTable"
        r"|dropColumn|renameColumn)\s*:")),
    ("mongo", re.compile(
        r"\.(?:dropDatabase|dropCollection|drop_collection|drop_database)\(|\.(?:deleteMany"
        r"|delete_many|remove)\(\s*\{\s*\}\s*\)")),
    ("orm", re.compile(
        r"\bdrop_all\(|\.objects\.(?:all\(\)\.)?delete\(|\.query\([^()]{0,80}\)\.delete\("
        r"|\.(?:destroy_all|delete_all)\b|\.destroy\(\{[^}]{0,40}\btruncate|\.deleteMany\(\s*\)")),
    ("bucket", re.compile(
        r"\.(?:delete_?bucket|delete_?objects|delete_?table|delete_?topic|delete_?index)\(", _I)),
    ("store", re.compile(r"\bflush(?:all|db)\b", _I)),
)  # fmt: skip
_SHELL = (
    ("rm", re.compile(
        r"\brm\s+-\w*[rR]\w*\s+(?!-)(?![\"']?(?:\.?/?(?:tmp|build|dist|out|target"
        r"|node_modules|\.venv|venv|coverage|__pycache__|\.cache|\.pytest_cache"
        r"|\.next)\b|/var/(?:lib/apt|cache)|/tmp|/usr/share/doc|/root/\.cache|~/\.cache"
        r"|\*\.pyc))\S")),
    ("kubernetes", re.compile(r"\bkubectl\s[^#\n]{0,200}\bdelete\b|\bhelm\s+(?:uninstall|delete)\b")),
    ("terraform", re.compile(r"\b(?:terraform|tofu|terragrunt|pulumi)\s[^#\n]{0,100}\bdestroy\b")),
    ("cloud", re.compile(
        r"\baws\s+s3\s+(?:rm|rb)\b|\baws\s[^#\n]{0,80}\bdelete-|\b(?:gcloud|az)\s[^#\n]{0,120}\bdelete\b"
        r"|\bgsutil\s[^#\n]{0,60}\brm\b")),
    ("database", re.compile(r"\bdropdb\b|\bpg_restore\s[^#\n]{0,120}--clean\b|\bmysqladmin\s[^#\n]{0,120}\bdrop\b")),
    ("disk", re.compile(r"\bmkfs(?:\.\w+)?\s|\bdd\s[^#\n]{0,120}\bof=/dev/|\bwipefs\b|\bshred\s")),
    ("history", re.compile(r"\bgit\s+push\s[^#\n]{0,80}(?:--force(?!-with-lease)|\s-f\b|--mirror|--delete)")),
    ("containers", re.compile(
        r"\bdocker\s+(?:volume\s+(?:rm|prune)|system\s+prune)|\bdocker[- ]compose\s[^#\n]{0,60}\bdown\s"
        r"[^#\n]{0,40}-v\b")),
)  # fmt: skip
_DOWN = re.compile(
        r"\s*(?:def (?:downgrade|down|self\.down|backwards)\b|(?:module\.)?exports\.down\b"
        r"|export\s+(?:async\s+)?(?:function|const)\s+down\b"
    r"|(?:public\s+)?(?:async\s+)?(?:override\s+)?(?:function|void|func)?\s*[dD]own\s*\(|--\s*\+(?:goose|migrate)\s+down|--\s*migrate:down"
    r"|--\s*rollback\b|<rollback\b)", _I
)  # fmt: skip
_UP = re.compile(
        r"(?:def (?!down|backwards)|(?:module\.)?exports\.(?!down)|export\s|async function up"
        r"|--\s*\+(?:goose|migrate)\s+up|--\s*migrate:up"
        r"|--\s*changeset|\s*</rollback>|\s*(?:public\s+)?(?:async\s+)?(?:override\s+)?(?:function"
        r"|void|func)\s+[uU]p\b|class )", _I
)  # fmt: skip
_JOINED = re.compile(r"(?P<q>[\"'])\s{0,4}(?:\+|\.{1,2})?\s{0,4}(?P=q)")  # "DROP" + " TABLE"
_DOWN_FILE = re.compile(r"\.down\.\w+$|(?:^|/)U\d[\w.]*__|(?:^|/)down\.sql$|_down\.sql$|\.undo\.sql$")
_CONFIG = frozenset(["yml", "yaml", "tf", "sh", "bash", "mk", "dockerfile", "toml", "json"])


def irreversible_steps(file: ChangedFile) -> Iterator[Noted]:
    if file.after is None or _DOWN_FILE.search(file.path):
        return
    lines = file.after.splitlines()
    added = set(file.added) - set(_way_back(lines))
    if _is_sql(file.path):
        yield from _statements(file.path, lines, added)
        return
    rules = (*_SQL, *_CODE, *(_SHELL if _runs_commands(file.path) else ()))
    for number in sorted(added):
        line = lines[number - 1][:MOST_CHARS] if 0 < number <= len(lines) else ""
        if line.strip().startswith(("#", "//", "*", "--")) and "#!" not in line:
            continue
        line = _JOINED.sub("", line)
        rule = next((name for name, pattern in rules if pattern.search(line)), None) or _unbounded(line)
        if rule is not None:
            yield Noted(rule=f"irreversible/{rule}", path=file.path, line=number, words=line.strip())


def _is_sql(path: str) -> bool:
    return path.lower().endswith((".sql", ".ddl", ".cql"))


def _runs_commands(path: str) -> bool:
    name = path.rpartition("/")[2].lower()
    named = name.startswith(("makefile", "dockerfile", "jenkinsfile", "justfile", "procfile", "entrypoint"))
    return named or language_of(path) is Language.SHELL or name.rpartition(".")[2] in _CONFIG or "." not in name


def _way_back(lines: list[str]) -> Iterator[int]:
    """Numbers of the lines from one that begins the way back to one that begins something else."""
    down = False
    for number, line in enumerate(lines, 1):
        if _DOWN.match(line):
            down = True
        elif down and _UP.match(line):
            down = False
        if down:
            yield number


def _unbounded(text: str) -> str | None:
    """A DELETE or UPDATE of everything. None: it has a condition, or is neither."""
    for name, pattern in (("delete-all", _DELETE), ("update-all", _UPDATE)):
        if (found := pattern.search(text)) and not _WHERE.search(text, found.end()):
            return name
    return None


def _statements(path: str, lines: list[str], added: set[int]) -> Iterator[Noted]:
    """Statements that an added line belongs to, without comments."""
    text, first, own = "", 0, False
    for number, line in enumerate([*lines, ";"], 1):
        bare = line[:MOST_CHARS].partition("--")[0]
        first, own = first or (number if bare.strip() else 0), own or (number in added and bool(bare.strip()))
        text = f"{text} {bare.strip()}"[:MOST_STATEMENT]
        if ";" in bare:
            rule = next((name for name, pattern in _SQL if pattern.search(text)), None) or _unbounded(text)
            if own and rule is not None:
                yield Noted(rule=f"irreversible/{rule}", path=path, line=first, words=text.strip()[:300])
            text, first, own = "", 0, False
