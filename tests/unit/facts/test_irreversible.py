"""Steps that no revert takes back, secrets, owners and interfaces: what is named, and what only looks like it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from trees_kit import changed, found

from controller.facts.owners import Owners

DESTRUCTIVE = [
    ("db/1.sql", "DROP TABLE carts;", "drop"),
    ("db/1.sql", "ALTER TABLE carts\n  DROP COLUMN total;", "drop"),
    ("db/1.sql", "ALTER TABLE carts DROP total;", "drop-column"),
    ("db/1.sql", "ALTER TABLE carts RENAME TO baskets;", "rename"),
    ("db/1.sql", "TRUNCATE carts;", "truncate"),
    ("db/1.sql", "DELETE FROM carts;", "delete-all"),
    ("db/1.sql", "update carts\nset total = 0;", "update-all"),
    ("app.py", 'db.execute("DROP TABLE carts")', "drop"),
    ("app.py", 'db.execute("delete from carts")', "delete-all"),
    ("shop/migrations/0002_x.py", "    operations = [migrations.RemoveField('cart', 'total')]", "django"),
    ("alembic/versions/1_x.py", "def upgrade():\n    op.drop_column('carts', 'total')", "alembic"),
    ("db/migrate/2026_x.rb", "  def up\n    remove_column :carts, :total\n  end", "rails"),
    ("migrations/1.js", "exports.up = k => k.schema.dropTable('carts')", "knex"),
    (
        "alembic/versions/2_x.py",
        "def downgrade():\n    op.add_column('a', b)\n\ndef upgrade():\n    op.drop_column('a', 'b')",
        "alembic",
    ),
    ("bin/clean", "#!/usr/bin/env rm -rf /srv/data", "rm"),
    ("deploy.sh", "rm -rf /srv/data", "rm"),
    ("deploy.sh", 'rm -rf "$HOME"/shop', "rm"),
    (".github/workflows/x.yml", "  run: kubectl -n shop delete pvc data", "kubernetes"),
    ("Makefile", "down:\n\tterraform destroy -auto-approve", "terraform"),
    ("deploy.sh", "aws s3 rm s3://shop --recursive", "cloud"),
    ("deploy.sh", "git push --force origin main", "history"),
    ("tool.py", "client.drop_database('shop')", "mongo"),
]
HARMLESS = [
    ("db/1.sql", "ALTER TABLE carts ADD COLUMN total int;"),
    ("db/1.sql", "DELETE FROM carts\n WHERE old;"),
    ("db/1.sql", "-- DROP TABLE carts;\nselect 1;"),
    ("db/1.sql", "ALTER TABLE carts DROP CONSTRAINT positive;"),
    ("db/1.down.sql", "DROP TABLE carts;"),
    (
        "alembic/versions/1_x.py",
        "def upgrade():\n    op.add_column('a', b)\n\ndef downgrade():\n    op.drop_column('a', 'b')",
    ),
    ("migrations/1.js", "exports.up = k => k.schema.createTable('a')\nexports.down = k => k.schema.dropTable('a')"),
    ("db/1_x.sql", "-- +goose Up\nCREATE TABLE a (b int);\n-- +goose Down\nDROP TABLE a;"),
    ("Dockerfile", "RUN apt-get install x && rm -rf /var/lib/apt/lists/*"),
    ("build.sh", "rm -rf build dist"),
    ("tests/test_db.py", 'db.execute("DROP TABLE carts")'),
    ("docs/a.md", "DROP TABLE carts;"),
    ("app.py", "from utils import drop_shadow, truncate\ntruncate(name)"),
    ("app.py", "# rm -rf /srv/data"),
]


@pytest.mark.parametrize(("path", "text", "rule"), DESTRUCTIVE, ids=lambda one: str(one)[:30])
def test_a_step_that_cannot_be_taken_back_is_named(path: str, text: str, rule: str) -> None:
    assert [one.rule for one in found(changed(path, None, text + "\n")).irreversible] == [f"irreversible/{rule}"]


@pytest.mark.parametrize(("path", "text"), HARMLESS, ids=lambda one: str(one)[:30])
def test_what_can_be_taken_back_or_is_never_run_is_not_named(path: str, text: str) -> None:
    assert found(changed(path, None, text + "\n")).irreversible == ()


def test_a_step_that_stood_there_before_is_none_of_the_change() -> None:
    old = "DROP TABLE carts;\n"
    assert found(changed("db/1.sql", old, old + "select 1;\n")).irreversible == ()


def test_a_condition_that_goes_from_a_statement_makes_the_whole_of_it_the_changes() -> None:
    old = "DELETE FROM carts\nWHERE old\nRETURNING id\n;\n"
    (step,) = found(changed("db/1.sql", old, old.replace("WHERE old\n", "").replace("id", "total"))).irreversible
    assert (step.rule, step.line) == ("irreversible/delete-all", 1)


# --- secrets ----------------------------------------------------------------------------------------------------------

TOKEN = "ghp_" + "a1B2c3D4" * 5


def test_a_secret_that_the_change_adds_is_named_by_place_and_never_repeated() -> None:
    analysis = found(changed("app.py", "x = 1\n", f"x = 1\ntoken = '{TOKEN}'\n"))
    assert [(one.rule, one.path, one.line) for one in analysis.secrets] == [("secret/github-token", "app.py", 2)]
    assert TOKEN not in analysis.model_dump_json()


def test_a_secret_that_the_change_takes_away_or_leaves_alone_is_none() -> None:
    assert found(changed("app.py", f"t = '{TOKEN}'\n", "t = env['T']\n")).secrets == ()
    assert found(changed("app.py", f"t = '{TOKEN}'\n", f"t = '{TOKEN}'\nx = 1\n")).secrets == ()


# --- owners -----------------------------------------------------------------------------------------------------------

CODEOWNERS = """
# comment
*            @all
*.js         @js   # inline
/docs/       @writers
apps/        @apps
/build/logs/ @logs
docs/*       a@b.example
**/secret    @safe
/free/**     @free
/free/open
my\\ file    @space
"""
OWNED = {
    "README": ("@all",),
    "x/y/z.js": ("@js",),
    "docs/guide/a.md": ("@writers",),
    "docs/a.md": ("a@b.example",),
    "deep/apps/x/y": ("@apps",),
    "build/logs/x": ("@logs",),
    "sub/build/logs/x": ("@all",),
    "a/b/secret": ("@safe",),
    "a/secret/x": ("@safe",),
    "free/x/y": ("@free",),
    "free/open": (),
    "my file": ("@space",),
}


@pytest.mark.parametrize("path", OWNED)
def test_the_last_pattern_that_matches_says_who_owns_a_path(path: str) -> None:
    assert Owners(CODEOWNERS).of(path) == OWNED[path]


def test_gitlabs_sections_each_have_their_own_last_match() -> None:
    text = "[Docs] @docs\n*.md\n[Shop][2]\n*.md @shop\nREADME.md @readme\n^[Optional]\n*.txt @maybe\n"
    assert Owners(text).of("README.md") == ("@docs", "@readme")
    assert Owners(text).of("a.md") == ("@docs", "@shop")


def test_a_hostile_pattern_costs_no_more_than_its_length() -> None:
    owners = Owners("*" + "a*" * 200 + "b @x\n" + "**/" * 200 + "c @y\n")
    assert owners.of("a" * 250) == ()
    assert owners.of("/".join("a" * 1 for _ in range(500))) == ()


def test_a_file_that_moves_away_from_an_owner_asks_that_owner() -> None:
    analysis = found(changed("free/a.py", "x\n", "x\n", was="safe/a.py"), owners="/safe/ @safe\n")
    assert [(one.path, one.owners) for one in analysis.owned] == [("safe/a.py", ("@safe",))]


# --- interfaces -------------------------------------------------------------------------------------------------------

PUBLIC = [
    ("lib.py", "def slug(a, b=1): ...\n", "", "removed"),
    ("lib.py", "def slug(a, b=1): ...\n", "def slug(a, b): ...\n", "narrowed"),
    ("lib.py", "def slug(a, b=1): ...\n", "def slug(a): ...\n", "narrowed"),
    ("lib.py", "class Cart:\n    def add(self, x): ...\n", "class Cart:\n    pass\n", "removed"),
    ("lib.py", "from x import helper\n__all__ = ['helper']\n", "__all__ = []\n", "removed"),
    ("lib.ts", "export function slug(a) {}\n", "\n", "removed"),
    ("lib.go", "func Slug(a string) string {\n", "\n", "removed"),
    ("src/lib.rs", "pub fn slug(a: &str) {}\n", "\n", "removed"),
    ("Lib.java", "public class Lib {\n  public String slug(String a) {\n", "public class Lib {\n", "removed"),
    ("api.proto", "message Cart {\n  int32 total = 1;\n}\n", "message Cart {\n}\n", "removed"),
    ("openapi.yaml", "paths:\n  /carts:\n    get: {}\n", "paths: {}\n", "removed"),
]
SAME = [
    ("lib.py", "def slug(a): ...\n", "def slug(a, b=1): ...\n"),
    ("lib.py", "def slug(a): ...\n", "def slug(a, *args, **rest): ...\n"),
    ("lib.py", "def _slug(a): ...\n", ""),
    ("lib.py", "def slug(a): ...\n", "from new import slug\n"),
    ("_lib.py", "def slug(a): ...\n", ""),
    ("tests/test_lib.py", "def helper(a): ...\n", ""),
    ("lib.go", "func slug(a string) string {\n", "\n"),
]


@pytest.mark.parametrize(("path", "before", "after", "rule"), PUBLIC)
def test_a_public_interface_that_goes_or_narrows_is_named(path: str, before: str, after: str, rule: str) -> None:
    assert f"interface/{rule}" in [one.rule for one in found(changed(path, before, after)).interfaces_removed]


@pytest.mark.parametrize(("path", "before", "after"), SAME)
def test_what_is_private_widened_or_still_there_is_not_named(path: str, before: str, after: str) -> None:
    assert found(changed(path, before, after)).interfaces_removed == ()


def test_an_interface_that_the_task_names_is_asked_for_and_a_programs_own_modules_are_no_interface() -> None:
    gone = changed("lib.py", "def slug(a): ...\n", "")
    assert [one.asked for one in found(gone, task="Remove slug()").interfaces_removed] == [True]
    assert found(gone, public=False).interfaces_removed == ()
    assert found(changed("api.proto", "message Cart {\n", "\n"), public=False).interfaces_removed != ()


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ('db.execute("DROP" + " TABLE orders")', "drop"),
        ("db.execute('DROP' ' TABLE orders')", "drop"),
        ("Base.metadata.drop_all(engine)", "orm"),
        ("Order.objects.all().delete()", "orm"),
        ("session.query(Order).delete()", "orm"),
        ("Order.destroy_all", "orm"),
        ("await prisma.order.deleteMany()", "orm"),
        ("s3.delete_bucket(Bucket=name)", "bucket"),
        ("session.query(Order).filter_by(id=1).delete()", None),
        ("Order.objects.filter(id=1).delete()", None),
        ("shutil.rmtree(tmp_path)", None),
        ("await prisma.order.deleteMany({ where: { id } })", None),
        ('say("drop" + " a line")', None),
    ],
)
def test_calls_that_throw_everything_away_are_seen_in_any_language(line: str, rule: str | None) -> None:
    analysis = found(changed("shop/clean.js", "a = 1\n", f"a = 1\n{line}\n"))
    assert [one.rule for one in analysis.irreversible] == ([f"irreversible/{rule}"] if rule else [])


def test_of_many_owned_paths_every_owner_is_kept() -> None:
    files = [changed(f"a/{n:03}.py", None, "a = 1\n") for n in range(300)]
    analysis = found(*files, changed("z/pay.py", None, "a = 1\n"), owners="/a/ @all\n/z/ @money\n")
    assert len(analysis.owned) == 200
    assert {one.owners for one in analysis.owned} == {("@all",), ("@money",)}
    assert [one.rule for one in analysis.unread] == ["unread/too-many-owned"]
