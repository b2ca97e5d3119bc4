"""The packet as one HTML page for people: no script, nothing fetched, everything from outside escaped.

The page is a view of the entries that lie beside it and proves nothing by itself; it says so, and how to check them.
Pure: the same entries, the same page.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from html import escape
from typing import Any

from controller.compliance.judged import Judged
from controller.compliance.packet_judging import STYLE, how_it_was_judged
from controller.compliance.page_parts import link, long_text, moment, table
from controller.domain.ids import Digest
from controller.ledger.checkpoint import Checkpoint

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    title: str
    made_at: datetime
    standing: str  # "witnessed by …", or what is not proven
    checkpoint: Checkpoint
    entries: tuple[Raw, ...]
    words: Mapping[int, str]  # an entry as a sentence
    diff: str | None  # None: the repository no longer has the commits
    attestation: Raw | None = None  # None: there is none
    counts: Mapping[str, list[Raw]] = field(default_factory=dict)  # windows of counts, by the digest of their blob
    opened: Mapping[Digest, str] = field(default_factory=dict)
    judged: tuple[Judged, ...] = ()

    def with_more(
        self,
        *,
        attestation: Raw | None,
        counts: Mapping[str, list[Raw]],
        opened: Mapping[Digest, str],
        judged: tuple[Judged, ...],
    ) -> Page:
        return replace(self, attestation=attestation, counts=counts, opened=opened, judged=judged)

    def of(self, *kinds: str) -> list[Raw]:
        return [entry for entry in self.entries if entry["kind"] in kinds]


def render(page: Page) -> str:
    sections = (
        ("At a glance", _glance(page)),
        ("Decisions and their reasons", _decisions(page)),
        ("The change", _change(page)),
        ("Tests", _tests(page)),
        ("Deployment and observation", _rollout(page)),
        ("How it was judged", how_it_was_judged(page.judged)),
        ("What people did", _people(page)),
        ("Attestation", _attestation(page)),
        ("Every entry", _entries(page)),
    )
    body = "".join(f"<section><h2>{title}</h2>{''.join(parts)}</section>" for title, parts in sections)
    return _FRAME.format(title=escape(page.title), style=_STYLE + STYLE, body=_head(page) + body)


def _head(page: Page) -> str:
    seen = page.checkpoint
    tone = "good" if page.standing.startswith("witnessed") else "care"
    return (
        f"<header><h1>{escape(page.title)}</h1>"
        f'<p class="{tone}"><strong>{escape(page.standing[0].upper() + page.standing[1:])}.</strong></p>'
        f"<p>{len(page.entries)} entries of log <code>{escape(seen.origin)}</code>, as signed at {seen.size} entries, "
        f"root <code>{seen.root.hex()}</code>. Made {moment(page.made_at.isoformat())}. Times are UTC.</p>"
        "<p>This page only shows. What it rests on lies beside it and is checked with "
        "<code>python verify.py . --key KEY</code>, see README.txt.</p></header>"
    )


# --- sections ---------------------------------------------------------------------------------------------------------


def _glance(page: Page) -> Iterator[str]:
    facts: list[tuple[str, str]] = []
    for entry in page.of("TaskRequested", "ChangeAuthored", "RiskClassified", "Cleared", "Merged", "RolledBack"):
        facts += [(what, f"{value} {link(entry['index'])}") for what, value in _facts_of(entry)]
    yield table(("what", "value"), facts)
    counted = [value["body"]["cost_micro_usd"] for value in page.of("ReplyRecorded")]
    if counted:
        yield f"<p>{len(counted)} answers of the model, {sum(counted) / 1e6:.4f} USD.</p>"


def _facts_of(entry: Raw) -> Iterator[tuple[str, str]]:
    body, kind = entry["body"], entry["kind"]
    match kind:
        case "TaskRequested":
            yield "asked for by", f"<code>{escape(body['asked_by'])}</code> ({moment(entry['time'])})"
        case "ChangeAuthored":
            model = f"{body['model']} ({body['label']})" if body["model"] else "code, without a model"
            yield (
                "authored by",
                f"{escape(entry['principal'])}, {escape(model)}, session {escape(str(body['session']))}",
            )
            yield "prompt", f"<code>{escape(str(body['prompt_digest']))}</code>"
        case "RiskClassified":
            yield "risk", escape(body["verdict"]["reason"])
        case "Cleared":
            whom = "a person" if body["by_person"] else "policy"
            yield "let through by", f"{escape(body['approver'])} ({whom}), <code>{escape(body['policy'])}</code>"
        case "Merged":
            yield "landed as", f"<code>{escape(body['commit'])}</code> ({moment(entry['time'])})"
        case "RolledBack":
            yield "rolled back", f"to <code>{escape(body['to_commit'])}</code> ({moment(entry['time'])})"


def _decisions(page: Page) -> Iterator[str]:
    found = [(entry, entry["body"]["decision"]) for entry in page.entries if entry["body"].get("decision")]
    if not found:
        yield "<p>None.</p>"
    for entry, decision in found:
        yield f"<details open><summary>{link(entry['index'])} {escape(decision['question'])} "
        yield f"<strong>{escape(decision['choice'])}</strong></summary><dl>"
        for claim in decision["claims"]:
            yield f"<dt>because</dt><dd>{escape(claim['text'])} <code>{escape(claim['evidence'])}</code></dd>"
        for option in decision["options"]:
            if option["why_not"] is not None:
                yield f"<dt>not {escape(option['name'])}</dt><dd>{escape(option['why_not'])}</dd>"
        yield f"<dt>rules</dt><dd><code>{escape(', '.join(decision['rules']))}</code></dd>"
        yield f"<dt>would change it</dt><dd>{escape(decision['would_change'])}</dd>"
        yield f"<dt>else</dt><dd>{escape(decision['fallback'])}</dd></dl></details>"


def _change(page: Page) -> Iterator[str]:
    for entry in page.of("ChangeAuthored"):
        files = ", ".join(entry["body"]["files"])
        yield f"<p>{link(entry['index'])} {entry['body']['lines_changed']} lines in {escape(files)}.</p>"
    if page.diff is None:
        yield "<p>The repository no longer has the commits, so that there is no diff here.</p>"
    else:
        yield f"<details><summary>Diff</summary>{long_text(page.diff)}</details>"


def _tests(page: Page) -> Iterator[str]:
    for entry in page.of("CiReported"):
        body = entry["body"]
        said = "all passed" if body["passed"] else f"{len(body['failures'])} failed"
        yield f"<p>{link(entry['index'])} Round {body['round']}: {body['tests']} tests of "
        yield f"<code>{escape(body['tested'])}</code>, {said} ({escape(body['isolation'])}).</p>"
        if body["failures"]:
            rows = [(escape(one["test"]), escape(one["verdict"])) for one in body["failures"]]
            yield table(("test", "taken for"), rows)
        yield _sealed(page, "what the run printed", body["log"])
    if not page.of("CiReported"):
        yield "<p>None.</p>"


def _rollout(page: Page) -> Iterator[str]:
    rows = [_observed(entry) for entry in page.of("Observed")]
    if rows:
        yield table(("entry", "time", "weight", "canary errors", "baseline errors", "verdict"), rows)
    for entry in page.of("Observed"):
        windows = page.counts.get(entry["body"]["counts"])
        if windows:
            yield f"<details><summary>Windows of counts of {link(entry['index'])}</summary>"
            yield table(("window", "canary errors", "baseline errors"), [_window(one) for one in windows])
            yield "</details>"
    kinds = ("RegressionFound", "TrafficRestored", "RolledBack", "Promoted", "ReleaseConfirmed", "WeightLapsed")
    for entry in page.of(*kinds):
        yield f"<p>{link(entry['index'])} {moment(entry['time'])} {_sentence(page, entry)}</p>"
    if not rows and not page.of(*kinds):
        yield "<p>Nothing of it was deployed.</p>"


def _observed(entry: Raw) -> tuple[str, ...]:
    body = entry["body"]
    arms = [f"{body[f'{arm}_errors']} of {body[f'{arm}_requests']}" for arm in ("canary", "baseline")]
    sentence = f"{body['verdict']['outcome']}: {body['verdict']['sentence']}"
    return link(entry["index"]), moment(entry["time"]), f"{body['weight_percent']} %", *arms, escape(sentence)


def _window(window: Raw) -> tuple[str, ...]:
    arms = [f"{window[arm]['errors']} of {window[arm]['requests']}" for arm in ("canary", "baseline")]
    return f"{window['start_ms']} to {window['end_ms']} ms", *arms


def _people(page: Page) -> Iterator[str]:
    found = [entry for entry in page.entries if entry["principal"].startswith("person:")]
    for entry in found:
        yield f"<p>{link(entry['index'])} {moment(entry['time'])} <code>{escape(entry['principal'])}</code> "
        yield f"{_sentence(page, entry)}</p>"
    if not found:
        yield "<p>Nobody did anything.</p>"


def _attestation(page: Page) -> Iterator[str]:
    if page.attestation is None:
        yield "<p>There is none.</p>"
    else:
        text = json.dumps(page.attestation, indent=1)
        yield f"<details><summary>Statement about the commit</summary>{long_text(text)}</details>"


def _entries(page: Page) -> Iterator[str]:
    for entry in page.entries:
        yield f'<details id="e{entry["index"]}"><summary><code>#{entry["index"]}</code> {moment(entry["time"])} '
        yield f"<code>{escape(entry['stream'])}</code> <strong>{escape(entry['kind'])}</strong> "
        text = json.dumps(entry, indent=1, ensure_ascii=False)
        yield f"{_sentence(page, entry)}</summary>{long_text(text)}</details>"


# --- parts ------------------------------------------------------------------------------------------------------------


def _sealed(page: Page, what: str, sealed: Raw) -> str:
    text = page.opened.get(Digest(sealed["digest"]))
    if text is None:
        return f"<p>{escape(what)}: sealed, {sealed['size']} bytes, <code>{escape(sealed['digest'])}</code>.</p>"
    return f"<details><summary>{escape(what)} (opened for this packet)</summary>{long_text(text)}</details>"


def _sentence(page: Page, entry: Raw) -> str:
    return escape(page.words.get(entry["index"], ""))


_STYLE = """
:root { color-scheme: light dark; --ink: #1a1c1f; --paper: #fff; --quiet: #5c6470; --line: #d9dde3;
  --good: #e3f4e8; --care: #fff3d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ec; --paper: #16181b; --quiet: #9aa3ad; --line: #363b42;
  --good: #173724; --care: #43350f; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem;
  margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; border-top: 1px solid var(--line); padding-top: 1rem; }
code, pre { font: 0.85em/1.45 ui-monospace, monospace; }
pre { white-space: pre-wrap; border: 1px solid var(--line); padding: .6rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
td:first-child { overflow-wrap: normal; }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line); }
.good, .care { padding: .6rem .8rem; } .good { background: var(--good); } .care { background: var(--care); }
time, dt { color: var(--quiet); } details { margin: .3rem 0; } summary { cursor: pointer; } a { color: inherit; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .1rem .8rem; } dd { margin: 0; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } }
@media print { body { max-width: none; font-size: 10.5pt; } details::details-content { content-visibility: visible; }
  section, details { break-inside: avoid-page; } a { text-decoration: none; } }
"""
_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
