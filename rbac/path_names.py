"""The list itself: which names run code, steer agents, hold secrets, decide tests, and who says so.

A row is a class, the source that says what the names do, and patterns in a small part of gitignore's language: `name`
is a file of that name in any folder, `name/` a folder of that name anywhere and everything in it, `a/b` these segments
at the end of a path, a leading `/` ties to the root; `*` is anything within the last segment. Case does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PathClass(StrEnum):
    RUNS_CODE = "runs-code"  # by itself, outside the tests' sandbox: at checkout, opening, install, build or start
    STEERS_AGENTS = "steers-agents"  # read as instructions or configuration by coding agents
    HOLDS_SECRETS = "holds-secrets"  # by its name; what else holds one is the redaction's matter
    TEST_CONFIG = "test-config"  # decides which tests are collected and how they run
    CI = "ci"  # what a build server runs, with its own credentials
    DEPENDENCIES = "dependencies"  # manifests and locks
    MIGRATION = "migration"  # changes to stored data, which a revert does not take back
    OWNERS = "owners"  # who must review
    POLICY = "policy"  # Flyball's own configuration, grants and prompts


@dataclass(frozen=True, slots=True)
class Row:
    """`patterns` are separated by spaces: no name in the list has one."""

    path_class: PathClass
    source: str
    patterns: str


_C = PathClass
ROWS = (
    # --- runs code ----------------------------------------------------------------------------------------------------
    Row(
        _C.RUNS_CODE,
        "gitattributes(5), gitmodules(5), githooks(5)",
        ".gitattributes .gitmodules .gitconfig .githooks/",
    ),
    Row(
        _C.RUNS_CODE,
        "hook runners: husky, lefthook, pre-commit, lint-staged, overcommit",
        ".husky/ .huskyrc* lefthook.y*ml .lefthook.y*ml .pre-commit-config.y*ml .pre-commit-hooks.y*ml"
        " .lintstagedrc* lint-staged.config.* .overcommit.yml",
    ),
    Row(
        _C.RUNS_CODE,
        "editors' tasks, launch configurations and settings that name programs",
        ".vscode/ *.code-workspace .idea/ .fleet/ .devcontainer/ .devcontainer.json .zed/ *.sublime-project"
        " .exrc .vimrc .nvimrc .nvim.lua .dir-locals.el .gitpod.yml .replit",
    ),
    Row(_C.RUNS_CODE, "direnv(1), mise, asdf", ".envrc .mise.toml mise.toml .tool-versions"),
    Row(_C.RUNS_CODE, "debuggers and shells that read a file where they start", ".gdbinit .lldbinit .pdbrc .rprofile"),
    Row(
        _C.RUNS_CODE,
        "Python's site module; setuptools; build backends (PEP 517)",
        "sitecustomize.py usercustomize.py *.pth setup.py setup.cfg pyproject.toml",
    ),
    Row(
        _C.RUNS_CODE,
        "npm's lifecycle scripts and npmrc(5), Yarn, pnpm, Bun, node-gyp",
        "package.json .npmrc .yarnrc* .yarn/ .pnpmfile.cjs .pnp.cjs .pnp.loader.mjs bunfig.toml binding.gyp",
    ),
    Row(
        _C.RUNS_CODE,
        "bundlers' configurations, which are programs",
        "webpack.config.* vite.config.* rollup.config.* esbuild.config.* babel.config.* .babelrc*"
        " postcss.config.* metro.config.* gulpfile.* gruntfile.* next.config.* nuxt.config.* svelte.config.*"
        " astro.config.*",
    ),
    Row(_C.RUNS_CODE, "Cargo: build scripts and configuration", "build.rs .cargo/ rust-toolchain rust-toolchain.toml"),
    Row(
        _C.RUNS_CODE,
        "Gradle, Maven, sbt, Bazel, MSBuild and other builders",
        "build.gradle* settings.gradle* init.gradle* gradlew gradlew.bat gradle-wrapper.* pom.xml mvnw"
        " mvnw.cmd .mvn/ build.sbt build.xml WORKSPACE WORKSPACE.bazel MODULE.bazel BUILD BUILD.bazel *.bzl"
        " .bazelrc Directory.Build.props Directory.Build.targets *.targets *.csproj *.fsproj *.vbproj",
    ),
    Row(
        _C.RUNS_CODE,
        "make(1) and its kind, CMake, autotools, meson",
        "Makefile GNUmakefile Makefile.am Makefile.in Makefile.inc *.mk *.mak justfile .justfile"
        " Taskfile.y*ml Rakefile CMakeLists.txt *.cmake configure configure.ac meson.build SConstruct wscript"
        " Earthfile Tiltfile Vagrantfile flake.nix default.nix shell.nix noxfile.py tox.ini tox.toml"
        " fabfile.py dodo.py",
    ),
    Row(
        _C.RUNS_CODE,
        "containers and what starts them: Dockerfile reference, Compose specification, Procfile, systemd",
        "Dockerfile Dockerfile.* *.dockerfile Containerfile Containerfile.* compose*.y*ml"
        " docker-compose*.y*ml docker-bake.* Procfile Procfile.* *.service skaffold.y*ml",
    ),
    Row(
        _C.RUNS_CODE,
        "what is deployed, where and with which rights: Helm, Terraform, platforms, web servers, cron",
        "kustomization.y*ml helmfile.y*ml Chart.yaml *.tf *.tf.json *.tofu *.hcl"
        " Pulumi.* cdk.json serverless.y*ml fly.toml render.y*ml vercel.json netlify.toml wrangler.toml"
        " wrangler.json* app.yaml app.json playbook*.y*ml nginx.conf *.nginx Caddyfile httpd.conf .htaccess"
        " web.config haproxy.cfg traefik.y*ml crontab cron.d/ *.cron *.timer *.socket supervisord.conf uwsgi.ini"
        " gunicorn.conf.py php.ini .user.ini docker-entrypoint* entrypoint.sh cloud-init*",
    ),
    Row(
        _C.RUNS_CODE,
        "shells' start files, build back ends in the tree (hatch, PDM), fastlane, Danger, hooks of git",
        "hatch_build.py pdm_build.py .irbrc .pryrc .bashrc .profile .zshrc .bash_profile Capfile Fastfile"
        " Dangerfile Guardfile config.ru .bundle/ pre-commit pre-push commit-msg post-checkout post-merge git-hooks/",
    ),
    # --- steers agents ------------------------------------------------------------------------------------------------
    Row(_C.STEERS_AGENTS, "the AGENTS.md convention", "AGENTS.md AGENTS.override.md .agents/ .agent/ .rules"),
    Row(_C.STEERS_AGENTS, "Claude Code: memory, settings, skills", "CLAUDE.md CLAUDE.local.md .claude/ SKILL.md"),
    Row(_C.STEERS_AGENTS, "MCP: servers that a project has clients start", ".mcp.json mcp.json"),
    Row(_C.STEERS_AGENTS, "Cursor", ".cursor/ .cursorrules .cursorignore .cursorindexingignore"),
    Row(
        _C.STEERS_AGENTS,
        "GitHub Copilot: repository instructions, prompts, agents",
        ".github/copilot-instructions.md .github/copilot-setup-steps.yml .github/instructions/"
        " .github/prompts/ .github/chatmodes/ .github/agents/ .github/skills/ .github/hooks/ *.instructions.md"
        " *.prompt.md *.chatmode.md *.agent.md .copilot/",
    ),
    Row(_C.STEERS_AGENTS, "Gemini CLI, Codex, Qwen Code", "GEMINI.md .gemini/ .geminiignore .codex/ QWEN.md .qwen/"),
    Row(_C.STEERS_AGENTS, "Windsurf, Aider", ".windsurfrules .windsurf/ .codeium/ .aider*"),
    Row(
        _C.STEERS_AGENTS,
        "Cline, Roo, Kilo",
        ".clinerules .clinerules/ .roo/ .roorules* .roomodes .kilocode/ .kilocodemodes",
    ),
    Row(
        _C.STEERS_AGENTS,
        "Continue, Augment, Junie",
        ".continue/ .continuerules .augment/ .augment-guidelines .junie/",
    ),
    Row(
        _C.STEERS_AGENTS,
        "Kiro, Trae, Amazon Q, goose, OpenCode, Crush, Warp",
        ".kiro/ .trae/ .amazonq/ .goosehints .goose/ .opencode/ opencode.json opencode.jsonc .crush/"
        " .crush.json CRUSH.md WARP.md",
    ),
    # --- holds secrets ------------------------------------------------------------------------------------------------
    Row(_C.HOLDS_SECRETS, "dotenv", ".env .env.* *.env"),
    Row(
        _C.HOLDS_SECRETS,
        "ssh(1), gpg(1), TLS keys and stores of them",
        "id_rsa id_dsa id_ecdsa id_ecdsa_sk id_ed25519 id_ed25519_sk id_xmss *.pem *.key *.p12 *.pfx *.ppk"
        " *.jks *.keystore *.kdbx *.p8 secring.* .ssh/ .gnupg/",
    ),
    Row(
        _C.HOLDS_SECRETS,
        "Kubernetes, Docker, Helm, Vault",
        "kubeconfig kubeconfig.* *.kubeconfig .kube/ .docker/config.json .dockercfg .dockerconfigjson"
        " .vault-token .vault_pass .vault-password",
    ),
    Row(
        _C.HOLDS_SECRETS,
        "clouds' credentials: AWS, Google Cloud, Azure, S3 tools",
        "credentials.json .aws/credentials .aws/config service-account*.json service_account*.json"
        " *-service-account.json client_secret*.json *firebase-adminsdk*.json"
        " application_default_credentials.json .gcloud/ .azure/ local.settings.json .boto .s3cfg rclone.conf",
    ),
    Row(_C.HOLDS_SECRETS, "Terraform: state and variables", "*.tfstate *.tfstate.* terraform.tfvars *.auto.tfvars"),
    Row(
        _C.HOLDS_SECRETS,
        "netrc(5), PostgreSQL, MySQL, htpasswd(1), git-credential-store(1)",
        ".netrc _netrc .pgpass .my.cnf .mylogin.cnf .htpasswd .git-credentials",
    ),
    Row(
        _C.HOLDS_SECRETS,
        "package tools' tokens",
        ".pypirc .cargo/credentials .cargo/credentials.toml .gem/credentials",
    ),
    Row(
        _C.HOLDS_SECRETS,
        "files that name themselves so",
        "secrets.json secrets.toml secrets.y*ml secret.json secret.toml secret.y*ml .secrets .secret"
        " credentials.y*ml credentials.toml credentials.ini",
    ),
    # --- test configuration -------------------------------------------------------------------------------------------
    Row(
        _C.TEST_CONFIG,
        "pytest's configuration files; coverage, tox, nox, unittest runners",
        "conftest.py pytest.ini .pytest.ini pytest.toml .pytest.toml pyproject.toml setup.cfg tox.ini"
        " tox.toml noxfile.py .coveragerc nose2.cfg unittest.cfg .stestr.conf sitecustomize.py"
        " usercustomize.py *.pth",
    ),
    Row(
        _C.TEST_CONFIG,
        "Jest, Vitest, Mocha, Karma, Playwright, Cypress, AVA, nyc",
        "package.json jest.config.* jest.setup.* jest.preset.* setupTests.* vitest.config.*"
        " vitest.workspace.* vitest.setup.* vite.config.* .mocharc.* karma.conf.* playwright.config.*"
        " cypress.config.* ava.config.* .nycrc* babel.config.*",
    ),
    Row(
        _C.TEST_CONFIG,
        "Cargo, Go, Maven, Gradle, PHPUnit, RSpec, ExUnit, make",
        "Cargo.toml nextest.toml go.mod go.work pom.xml build.gradle* testng.xml junit-platform.properties"
        " phpunit.xml* .rspec spec_helper.rb rails_helper.rb test_helper.exs Makefile GNUmakefile",
    ),
    # --- CI -----------------------------------------------------------------------------------------------------------
    Row(
        _C.CI,
        "GitHub, Gitea, Forgejo, GitLab",
        ".github/workflows/ .github/actions/ .github/dependabot.y*ml .gitea/ .forgejo/ .gitlab-ci.yml"
        " .gitlab-ci/ .gitlab/",
    ),
    Row(
        _C.CI,
        "other build servers, by their documented file",
        ".ci/ .circleci/ Jenkinsfile Jenkinsfile.* azure-pipelines*.y*ml .azure-pipelines/ .azuredevops/"
        " bitbucket-pipelines.yml .buildkite/ .drone.yml .drone.star .woodpecker/ .woodpecker.y*ml .travis.yml"
        " appveyor.yml .appveyor.yml .semaphore/ .cirrus.yml .cirrus.star .teamcity/ .tekton/ cloudbuild.y*ml"
        " buildspec.y*ml .harness/ .builds/ .build.yml codemagic.yaml bitrise.yml wercker.yml",
    ),
    Row(_C.CI, "bots that change dependencies", "renovate.json renovate.json5 .renovaterc* .mergify.yml"),
    # --- dependencies -------------------------------------------------------------------------------------------------
    Row(
        _C.DEPENDENCIES,
        "Python: PEP 621 and 751, pip, Pipenv, Poetry, uv, PDM, conda",
        "pyproject.toml setup.py setup.cfg requirements*.txt requirements*.in requirements*.lock"
        " constraints*.txt Pipfile Pipfile.lock poetry.lock uv.lock uv.toml pdm.lock pylock*.toml pip.conf"
        " environment.y*ml conda-lock.y*ml pixi.toml pixi.lock",
    ),
    Row(
        _C.DEPENDENCIES,
        "JavaScript: npm, Yarn, pnpm, Bun, Deno",
        "package.json package-lock.json npm-shrinkwrap.json yarn.lock pnpm-lock.yaml pnpm-workspace.yaml"
        " bun.lock bun.lockb deno.json deno.jsonc deno.lock .npmrc .yarnrc*",
    ),
    Row(_C.DEPENDENCIES, "Go modules, Cargo", "go.mod go.sum go.work go.work.sum Cargo.toml Cargo.lock"),
    Row(
        _C.DEPENDENCIES,
        "JVM: Maven, Gradle, sbt",
        "pom.xml build.gradle* settings.gradle* gradle.lockfile gradle.properties *.versions.toml build.sbt"
        " gradle-wrapper.properties verification-metadata.xml",
    ),
    Row(
        _C.DEPENDENCIES,
        "Ruby, PHP, .NET, Swift, Dart, Elixir, Haskell, C and C++, Nix",
        "Gemfile Gemfile.lock gems.rb gems.locked *.gemspec composer.json composer.lock packages.lock.json"
        " packages.config nuget.config Directory.Packages.props *.csproj *.fsproj *.vbproj Package.swift"
        " Package.resolved Podfile Podfile.lock pubspec.yaml pubspec.lock mix.exs mix.lock stack.yaml"
        " stack.yaml.lock *.cabal deps.edn project.clj rebar.config elm.json shard.yml dub.json Cartfile Brewfile"
        " Aptfile import_map.json importmap.json vcpkg.json conanfile.* conan.lock flake.nix flake.lock MODULE.bazel"
        " *.lock",
    ),
    # --- stored data --------------------------------------------------------------------------------------------------
    Row(
        _C.MIGRATION,
        "Django, Alembic, Rails, Prisma, Flyway, Liquibase, golang-migrate",
        "migrations/ migration/ alembic/ alembic.ini db/migrate/ schema.rb structure.sql V*__*.sql R__*.sql"
        " U*__*.sql *.up.sql *.down.sql changelog.xml db.changelog*.xml db.changelog*.y*ml",
    ),
    # --- who decides --------------------------------------------------------------------------------------------------
    Row(_C.OWNERS, "CODEOWNERS, as GitHub and GitLab read it", "CODEOWNERS"),
    Row(_C.POLICY, "Flyball's own files", "flyball.toml /rbac/ /prompts/"),
)
