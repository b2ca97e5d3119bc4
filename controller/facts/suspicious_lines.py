"""The same for other languages, by line patterns: what runs text or a shell, and what asks whether it is tested.

A pattern does not know a string or a comment from code: a line that only speaks of `eval(` asks for a person as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from controller.facts.hidden_characters import Found, passes_for_ascii
from controller.facts.languages import Language

_ANY_CI = r"\bPYTEST_\w+|\bFLYBALL_\w+|\bGITHUB_ACTIONS\b|\bGITLAB_CI\b|\bJENKINS_URL\b|\bCONTINUOUS_INTEGRATION\b"
_RUNS = {
    Language.JAVASCRIPT: r"\beval\s*\(|\bFunction\s*\(\s*[^)\s]|\bvm\s*\.\s*(?:run|compile)"
    r"|\bchild_process\b|\.constructor\s*\(\s*[\"'`]|\bset(?:Timeout|Interval)\s*\(\s*[\"'`]|\b(?:import|require)\s*\(\s*[^\"'`)\s]|\bprocess\.binding\b"
    r"|\b(?:globalThis|window|global)\s*\[\s*[^\"'`\]\s]",
    Language.RUBY: r"\b(?:instance_|class_|module_)?eval\b|\bMarshal\.load|\bsystem\s*\(|%x[\[({]|`[^`]+`|\bKernel\.\w+"
    r"|\bYAML\.(?:unsafe_)?load\b|\bsend\s*\(\s*[^:\"')\s]",
    Language.PHP: r"\b(?:eval|assert|create_function|system|exec|shell_exec|passthru|popen|proc_open|unserialize)\s*\("
    r"|\binclude(?:_once)?\s*\(?\s*\$|\brequire(?:_once)?\s*\(?\s*\$|\$\w+\s*\(\s*\$_(?:GET|POST|REQUEST)",
    Language.SHELL: r"\beval\b|\|\s*(?:sudo\s+)?(?:ba|z|k|da)?sh\b|\bbase64\s+(?:-d|-D|--decode)|(?:source|\.)\s+<\("
    r"|\b(?:(?:ba|z|k|da)?sh|python3?)\s+-c\s+\"?[$`]|\bperl\s+-e\s+\"?[$`]",
    Language.JVM: r"\bScriptEngine|\bdefineClass\b|\bObjectInputStream\b|\bRuntime\.getRuntime\(\)|\bProcessBuilder\b"
    r"|\bClass\.forName\s*\(\s*[^\"\s)]|\bGroovyShell\b|\bMethodHandles\b|\bURLClassLoader\b",
    Language.GO: r"\bplugin\.Open\b|\bexec\.Command(?:Context)?\s*\(.*\"(?:/bin/)?(?:ba)?sh\"|\bgob\.NewDecoder\b"
    r"|//go:linkname|\bunsafe\.Pointer\b",
    Language.RUST: r"\bCommand::new\s*\(\s*\"(?:/bin/)?(?:ba)?sh\"|\blibloading\b|\btransmute\b|\bdlopen\b",
    Language.C: r"\b(?:system|popen|dlopen|dlsym|execl\w*|execv\w*)\s*\(|__attribute__\s*\(\(\s*constructor",
    Language.CSHARP: r"\bAssembly\.(?:Load|LoadFrom|LoadFile)\b|\bCSharpScript\b|\bBinaryFormatter\b|\bProcess\.Start\b"
    r"|\bDynamicMethod\b|\bType\.GetType\s*\(\s*[^\"\s)]",
    Language.SWIFT: r"\bNSClassFromString\b|\bdlopen\b|\bNSKeyedUnarchiver\b|\bProcess\s*\(\)",
    Language.OTHER: r"\b(?:eval|loadstring|load|dofile|Code\.eval_string|iex|Invoke-Expression)\s*[( ]",
}
_ASKS = {
    Language.JAVASCRIPT: r"\bJEST_WORKER_ID\b|\bVITEST\w*\b|\bNODE_ENV\b.{0,12}[\"'`]test[\"'`]|\bprocess\.env\.CI\b"
    r"|\btypeof\s+(?:jest|vi|describe|it|test|mocha)\b|\bglobalThis\.(?:jest|vi|describe)\b",
    Language.GO: r"\btesting\.Testing\s*\(|\bflag\.Lookup\s*\(\s*\"test\.|os\.Args\[0\].*\.test\"|Getenv\(\"CI\"\)",
    Language.RUST: r"\bcfg\s*!\s*\(\s*test|cfg\s*\(\s*not\s*\(\s*test|\benv\w*!?\s*\(\s*\"CI\"",
    Language.JVM: r"org\.(?:junit|testng|mockito)\b|getenv\(\"CI\"\)|surefire",
    Language.RUBY: r"defined\?\s*\(?\s*(?:RSpec|Minitest)|\bRails\.env\.test\?"
    r"|ENV\[[\"'](?:CI|RAILS_ENV|RACK_ENV)[\"']\].*test",
    Language.PHP: r"\bPHPUNIT_\w+|PHPUnit\\|runningUnitTests\s*\(",
    Language.CSHARP: r"\b(?:xunit|nunit|Microsoft\.VisualStudio\.TestTools|testhost)\b",
    Language.SWIFT: r"XCTestConfigurationFilePath|NSClassFromString\(\"XCTest",
    Language.SHELL: r"\$\{?CI\b",
    Language.C: r"getenv\(\"CI\"\)",
}
_WORD = re.compile(r"[^\W\d_]\w{2,}")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`|//.*|/\*.*|^\s*[*#].*")
_COMPILED = {
    kind: {language: re.compile(pattern) for language, pattern in patterns.items()}
    for kind, patterns in (("runs-text/pattern", _RUNS), ("asks-if-tested/pattern", _ASKS))
}
_CI = re.compile(_ANY_CI)


def found_in(language: Language, lines: list[tuple[int, str]], *, tests: bool) -> Iterator[Found]:
    """`tests`: only tests run it, and they may start and ask what they like."""
    for number, line in lines:
        if not line.isascii() and any(passes_for_ascii(word) for word in _WORD.findall(_QUOTED.sub("", line))):
            yield "lookalike/name", number, ""
        if tests:
            continue
        for rule, patterns in _COMPILED.items():
            pattern = patterns.get(language)
            if pattern is not None and (match := pattern.search(line)):
                yield rule, number, match.group()
        if match := _CI.search(line):
            yield "asks-if-tested/environment", number, match.group()
