"""What a secret looks like: one row a kind, the particular before the general.

A rule is asked only where one of its `hints` stands in the text (lower case), so that most lines cost a few substring
searches. Patterns begin with a literal where they can: `re` then skips to it. A rule that knows a secret by its shape
needs nothing around it; one that knows it by what stands before it ("password =") also asks whether the value looks
like a secret at all, for code and prose are full of names of secrets.

No pattern takes a quote, and none half of an escape: what is JSON before redaction is JSON afterwards. Every repetition
is bounded. Shapes are the vendors' own as they document them, 2026-11; where a vendor names none, the shape that
published scanners agree on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Check = Literal["none", "edge", "secret", "password"]
MARK = "[secret:"
MARKED = re.compile(r"\[secret:[a-z0-9-]{1,40}:[0-9a-f]{8}\]")

# --- does a value look like a secret? ---------------------------------------------------------------------------------

_VARIABLE = re.compile(r"\$[A-Za-z_{(]|[{<\[]|%(?:\(|[A-Z_]{2,40}%|[sdr]\b)")
_DIGEST = re.compile(r"(?:sha(?:1|256|384|512)[:-]|h1:|md5:)", re.IGNORECASE)
_DOTTED = re.compile(r"[A-Za-z_]\w{0,60}(?:\.[A-Za-z_]\w{0,60}){1,10}\??;?")
_PATH = re.compile(r"[./~]{0,3}[a-z0-9._-]{1,30}(?:/[a-z0-9._-]{1,30}){2,12}/?")
_PLACEHOLDER = re.compile(r"(?:your|example|placeholder|changeme|redacted|dummy|my)[-_]", re.IGNORECASE)
_SYMBOLS = frozenset("!#%^*@+=?&~:.")
PASSWORD_CHARS = 6
SECRET_CHARS = 12
DISTINCT_CHARS = 4  # "xxxxxxxx", "********"
JUMBLED_CHARS, JUMBLED_SHARE = 8, 0.4  # "TokenAuthenticationFilter" changes case in 0.2 of its places


def looks_secret(value: str, least: int = SECRET_CHARS) -> bool:
    """Letters mixed with digits or symbols, at least `least` characters, and no variable, path, digest or placeholder.

    Deliberately no entropy threshold: "Summer2026" has little of it and is a password, a commit has much and is none.
    """
    if len(value) < least or len(set(value)) < DISTINCT_CHARS:
        return False
    if any(known.match(value) for known in (_VARIABLE, _DIGEST, _PLACEHOLDER)):
        return False
    if any(shape.fullmatch(value) for shape in (_DOTTED, _PATH)):
        return False
    letters = any(c.isalpha() for c in value)
    return letters and (any(c.isdigit() or c in _SYMBOLS for c in value[:-1]) or value[-1].isdigit() or _jumbled(value))


def _jumbled(value: str) -> bool:
    """Whether upper and lower case change more often than in the words of a camelCase name."""
    changes = sum(a.isupper() != b.isupper() for a, b in pairwise(value))
    return len(value) >= JUMBLED_CHARS and changes >= JUMBLED_SHARE * len(value)


def looks_password(value: str) -> bool:
    """As `looks_secret`, from six characters on: people choose them."""
    return looks_secret(value, PASSWORD_CHARS)


CHECKS: dict[Check, Callable[[str], bool]] = {
    "none": lambda _: True,
    "edge": lambda _: True,
    "secret": looks_secret,
    "password": looks_password,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """`name` stands in the mark. The secret is the first group that took part, or the whole match."""

    name: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    check: Check = "edge"  # "edge": whatever stands before it must not be part of the same word
    folded: bool = False  # searched in the text in lower case


def _rule(name: str, hints: str, pattern: str, check: Check = "edge") -> Rule:
    return Rule(name, tuple(hints.split()), re.compile(pattern), check)


# --- shapes: a secret wherever it stands ------------------------------------------------------------------------------

_B64 = r"[A-Za-z0-9+/]"
_URL64 = r"[A-Za-z0-9_-]"
_PEM_HEAD = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"

SHAPES = (
    _rule(
        "private-key",
        "private",
        _PEM_HEAD
        + r"(?:[A-Za-z0-9+/=:,.()\s]|-(?!----)|\\+[nrt]){20,20000}-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----",
        "none",
    ),
    _rule("private-key", "private", _PEM_HEAD + r"(?:(?:\\+[nr]|\s){1,8}[A-Za-z0-9+/=]{16,80}){1,400}", "none"),
    _rule("age-key", "age-secret", r"AGE-SECRET-KEY-1[A-Z0-9]{40,70}"),
    _rule("aws-key-id", "akia asia abia acca", r"A(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}(?![A-Za-z0-9])"),
    _rule("gcp-api-key", "aiza", r"AIza[A-Za-z0-9_-]{35}"),
    _rule("gcp-token", "ya29.", r"ya29\.[A-Za-z0-9_-]{30,400}"),
    _rule("gcp-secret", "gocspx-", r"GOCSPX-[A-Za-z0-9_-]{28}"),
    _rule("azure-secret", "8q~ 7q~", rf"{_URL64}{{3}}[78]Q~[A-Za-z0-9_.~-]{{31,37}}"),
    _rule("digitalocean-token", "do_v1_ dop_v1_ doo_v1_ dor_v1_", r"do[opr]_v1_[a-f0-9]{64}"),
    _rule("alibaba-key-id", "ltai", r"LTAI[A-Za-z0-9]{12,24}"),
    _rule("github-token", "github_pat_", r"github_pat_[A-Za-z0-9]{20,30}_[A-Za-z0-9]{40,70}"),
    _rule("github-token", "ghp_ gho_ ghs_ ghu_ ghr_", r"gh[psour]_[A-Za-z0-9]{36,255}"),
    _rule("gitlab-token", "gl", r"gl(?:pat|rt|dt|ptt|ft|soat|cbt|imt|agent)-[A-Za-z0-9_.-]{20,80}"),
    _rule("bitbucket-token", "at", r"AT(?:BB|CTT3x|ATT3x)[A-Za-z0-9_=.-]{24,220}"),
    _rule("npm-token", "npm_", r"npm_[A-Za-z0-9]{36}"),
    _rule("pypi-token", "pypi-", r"pypi-AgE[A-Za-z0-9_-]{50,400}"),
    _rule("rubygems-key", "rubygems_", r"rubygems_[a-f0-9]{48}"),
    _rule("crates-token", "cio", r"cio[A-Za-z0-9]{32}(?![A-Za-z0-9])"),
    _rule("anthropic-key", "sk-ant-", r"sk-ant-[a-z0-9]{3,10}-[A-Za-z0-9_-]{60,120}"),
    _rule("openai-key", "t3blbkfj", rf"sk-(?:[a-z]{{3,10}}-)?{_URL64}{{16,160}}?T3BlbkFJ{_URL64}{{16,160}}"),
    _rule("model-key", "sk-or- sk-proj- sk-svcacct-", r"sk-(?:or|proj|svcacct)-[A-Za-z0-9_-]{32,200}"),
    _rule("huggingface-token", "hf_", r"hf_[A-Za-z0-9]{34}(?![A-Za-z0-9])"),
    _rule("slack-token", "xox xapp-", r"x(?:ox[abeoprs]|app)-[A-Za-z0-9-]{20,200}"),
    _rule(
        "slack-webhook",
        "hooks.slack.com",
        r"https://hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/_-]{20,120}",
    ),
    _rule(
        "discord-webhook",
        "/webhooks/",
        r"https://(?:\w{1,10}\.)?discord(?:app)?\.com/api/webhooks/\d{15,22}/[A-Za-z0-9_-]{40,100}",
    ),
    _rule("telegram-token", ":aa", r"\d{8,10}:AA[A-Za-z0-9_-]{32,35}", "none"),
    _rule("stripe-key", "_live_ _test_", r"[sr]k_(?:live|test)_[A-Za-z0-9]{20,250}"),
    _rule("stripe-webhook", "whsec_", r"whsec_[A-Za-z0-9+/=]{24,80}"),
    _rule("sendgrid-key", "sg.", r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}"),
    _rule("mailgun-key", "key-", r"key-[a-f0-9]{32}(?![A-Za-z0-9])"),
    _rule("twilio-key", "sk", r"SK[a-f0-9]{32}(?![A-Za-z0-9])"),
    _rule("vault-token", "hvs. hvb. hvr.", r"hv[sbr]\.[A-Za-z0-9_-]{24,200}"),
    _rule("databricks-token", "dapi", r"dapi[a-f0-9]{32}"),
    _rule("grafana-token", "glsa_ glc_", r"gl(?:sa|c)_[A-Za-z0-9_+/=]{32,200}"),
    _rule("newrelic-key", "nrak- nrra-", r"NR(?:AK|RA)-[A-Z0-9]{27,42}"),
    _rule("shopify-token", "shpat_ shpca_ shppa_ shpss_", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    _rule("square-token", "sq0", r"sq0[a-z]{3}-[A-Za-z0-9_-]{22,43}"),
    _rule("linear-key", "lin_api_", r"lin_api_[A-Za-z0-9]{32,48}"),
    _rule("notion-key", "ntn_", r"ntn_[A-Za-z0-9]{40,50}"),
    _rule("doppler-token", "dp.", r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9_.-]{40,60}"),
    _rule("sentry-token", "sntrys_ sntryu_", r"sntry[su]_[A-Za-z0-9_+/=-]{40,400}"),
    _rule("jwt", "eyj", r"eyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,8000}\.[A-Za-z0-9_-]{16,2000}"),
    _rule("password-hash", "$", r"\$(?:2[abxy]|[156y]|7|argon2id?|scrypt)\$[A-Za-z0-9./$=,+-]{20,200}", "none"),
)

# --- places: a secret because of what stands before it ----------------------------------------------------------------
# Searched in the lower-case text, so these are written in lower case; the value is then taken from the text as it is.
# Boundaries stand behind the literal: `re` skips to a pattern's first literal only if nothing comes before it.

_CHOSEN = r"pass(?:word|wd|phrase|code|wort)|pass(?<![a-z]pass)|pwd(?<![a-z]pwd)|pw(?<![a-z]pw)|kennwort"
_NAMES = (
    r"secret(?:[_-]?(?:key|token|access[_-]?key))?|token|credentials?|jsessionid|phpsessid|session[_-]?id|connect\.sid|"
    r"api[_-]?key|access[_-]?key|auth[_-]?key|account[_-]?key|private[_-]?key|preshared[_-]?key|encryption[_-]?key|"
    r"signing[_-]?key|licen[sc]e[_-]?key|master[_-]?key|storage[_-]?key"
)
_SAYS = r"(?:\\*[\"'])?\]?\s{0,4}(?:=>|:=|==?|:)\s{0,4}(?:\(\s{0,12})?"  # what stands between a name and its value
_QUOTED = r"(?:[rbuf]{0,2}\\*[\"']([^\"'\\\n]{6,400})\\*[\"'])"
_BARE = r"((?![?+-])[^\s\"'\\,;&<>(){}\[\]|`]{6,400})(?![(\[{])"


def _place(name: str, hints: str, pattern: str, check: Check = "none", flags: int = 0) -> Rule:
    return Rule(name, tuple(hints.split()), re.compile(pattern, flags), check, folded=True)


def _named(name: str, hints: str, names: str, check: Check) -> Rule:
    return _place(name, hints, rf"(?:{names}){_SAYS}(?:{_QUOTED}|{_BARE})", check)


PLACES = (
    _place("url-password", "://", r"://[^\s/:@\"'\\<>]{0,100}:([^\s/@\"'\\<>$*{}]{3,200})@"),
    _place(
        "authorization",
        "authorization",
        r"authorization\\*[\"']?\s{0,4}[:=]\s{0,4}\\*[\"']?(?:(?:bearer|basic|token|apikey)\s{1,4})?([a-z0-9._~+/=:-]{12,4000})",
        "secret",
    ),
    _place("bearer", "bearer", r"bearer\s{1,4}([a-z0-9._~+/=-]{20,4000})", "secret"),
    _place("signed-url", "sig= signature=", r"(?:[?&;]sig|x-(?:amz|goog)-signature)=([a-z0-9%+/=_-]{20,600})"),
    _place("registry-auth", "auth", r"auth\\?\"\s{0,4}:\s{0,4}\\?\"([a-z0-9+/]{16,2000}={0,2})\\?\""),
    _place("add-mask", "add-mask", r"add-mask(?:::|\])\s{0,2}([^\s\"'\\]{6,400})"),
    _place("netrc", "login", r"login\s{1,4}\S{1,100}\s{1,4}password\s{1,4}([^\s\"'\\]{4,200})"),
    _place(
        "pgpass",
        ":*: :5432: :5433: :6432:",
        r"^[\w.*-]{1,100}:(?:\d{2,5}|\*):[\w*-]{1,63}:[\w*-]{1,63}:([^\s:\"'\\]{6,200})$",
        "password",
        re.MULTILINE,
    ),
    _place("basic-user", "curl", r"curl\b[^\n]{0,400}?\s(?:-u|--user)[ =][\"']?[\w.@-]{1,100}:([^\s\"'\\$]{4,200})"),
    _place("mysql-password", "mysql", r"mysql\w{0,10}\b[^\n]{0,200}?\s-p([^\s\"'\\$]{6,200})", "password"),
    _place("flag-password", "sshpass", r"sshpass\s{1,4}-p\s{0,4}[\"']?([^\s\"'\\$]{4,200})"),
    _place("flag-password", "login", r"login\b[^\n]{0,200}?\s-p[ =][\"']?([^\s\"'\\$]{6,200})", "password"),
    _place(
        "flag-secret",
        "--",
        r"--[a-z-]{0,20}(?:password|passwd|passphrase|token|secret|api-?key)[ =]\s{0,3}[\"']?"
        r"([^\s\"'\\$-][^\s\"'\\]{5,400})",
        "password",
    ),
    _place(
        "env-value",
        "value:",
        r"name:\s{0,4}[\"']?\w{0,60}(?:key|token|secret|password|pass)[\"']?\s{1,40}value:\s{0,4}[\"']?([^\s\"'\\]{6,400})",
        "password",
    ),
    _place("xml-secret", "</", r"<\w{0,30}(?:password|passphrase|secret|token|apikey)>([^<\s\"'\\]{4,400})</"),
    _place(
        "said-password",
        "pass pw kennwort",
        r"(?:passwor[dt]|kennwort|passphrase|pwd?(?<![a-z]pw)(?<![a-z]pwd))\s{1,4}(?:is|ist|lautet|was|war)\s{1,4}[:=]?\s{0,4}[\"'`]?"
        r"([^\s\"'\\`]{6,200})",
        "password",
    ),
    _named("password", "pass pwd pw kennwort", _CHOSEN, "password"),
    _named("token", "token secret credential sess sid key", _NAMES, "secret"),
)

RULES = (*SHAPES, *PLACES)
