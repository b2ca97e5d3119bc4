"""The service of a session's repository in one environment, and the release that is under way there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.domain.control import fold_people
from controller.domain.ids import Repository, people_stream, rollout_stream
from controller.domain.rollout import Release, Rollout
from controller.domain.rollout import fold as fold_rollout
from controller.ports import Badge, Log, RepositoryConfig, ServiceConfig
from tools.belt import NotPossible


@dataclass(frozen=True, slots=True)
class Releases:
    log: Log
    repositories: Mapping[Repository, RepositoryConfig]

    def service(self, badge: Badge, environment: str) -> ServiceConfig:
        """Raises NotPossible when nothing of the session's repository runs there."""
        service = self.repositories[badge.repository].service
        if service is None or service.environment != environment:
            raise NotPossible(f"nothing of {badge.repository} is deployed to {environment}")
        return service

    async def rollout(self, service: ServiceConfig) -> Rollout:
        stream = rollout_stream(service.name, service.environment)
        return fold_rollout(stream, await self.log.read(stream))

    async def held_by(self, release: Release) -> list[str]:
        """Who holds a delivery of this release, as principals."""
        people = [fold_people(await self.log.read(people_stream(one))) for one in release.deliveries]
        return sorted({one.held_by for one in people if one.held_by is not None})


def under_way(rollout: Rollout, service: ServiceConfig) -> Release:
    """Raises NotPossible when there is none."""
    if rollout.current is None:
        raise NotPossible(f"no release of {service.name} is under way in {service.environment}")
    return rollout.current
