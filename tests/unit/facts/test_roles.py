"""Files whose values or manifests decide what happens where users are, told from data and sources that do not."""

from __future__ import annotations

import pytest

from controller.domain.change import Role
from controller.facts.roles import roles_of

DEPLOYMENT = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: shop}\n"


@pytest.mark.parametrize(
    ("path", "text", "role"),
    [
        ("deploy/shop.yaml", DEPLOYMENT, Role.RUNS_OUTSIDE),
        ("rights.yml", "kind: ClusterRoleBinding\nroleRef: {name: cluster-admin}\n", Role.RUNS_OUTSIDE),
        ("site.yml", "- hosts: all\n  tasks: []\n", Role.RUNS_OUTSIDE),
        ("infra/main.tf", "", Role.RUNS_OUTSIDE),
        ("nginx.conf", "", Role.RUNS_OUTSIDE),
        ("fly.toml", "", Role.RUNS_OUTSIDE),
        ("reqs/dev.txt", "", Role.DEPENDENCIES),
        ("dev-deps.txt", "", Role.DEPENDENCIES),
        ("config/shop.json", "", Role.SETTINGS),
        ("settings.yaml", "", Role.SETTINGS),
        ("shop/feature-flags.json", "", Role.SETTINGS),
        ("application-prod.properties", "", Role.SETTINGS),
        ("appsettings.Production.json", "", Role.SETTINGS),
        ("authz/policy.rego", "", Role.SETTINGS),
        ("access.cedar", "", Role.SETTINGS),
        ("prices.yaml", "kind: apple\nprice: 3\n", Role.SOURCE),
        ("locale/de.json", "", Role.SOURCE),
        ("shop/settings.py", "", Role.SOURCE),
        ("shop/config/load.py", "", Role.SOURCE),
        ("docs/config.md", "", Role.DOCS),
        ("tests/config/a.json", "", Role.TEST),
    ],
)
def test_a_file_that_decides_is_told_from_one_that_does_not(path: str, text: str, role: Role) -> None:
    found = roles_of(path, text)
    assert role in found
    assert (Role.SETTINGS in found) == (role is Role.SETTINGS)
    assert (Role.RUNS_OUTSIDE in found) == (role is Role.RUNS_OUTSIDE)
