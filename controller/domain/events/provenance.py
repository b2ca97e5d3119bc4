"""attestation/<commit>: what is said, signed, about a commit that landed. One entry, and the stream has ended."""

from __future__ import annotations

from typing import ClassVar

from controller.domain.events.base import Event
from controller.domain.ids import Branch, Commit, Digest, Repository, StreamId


class MergeAttested(Event):
    """The landing's statement is signed, kept as a blob, and lies beside the commit in the repository's notes."""

    terminal: ClassVar[bool] = True
    repository: Repository
    branch: Branch
    commit: Commit
    landed: int  # log index of the Landed that it is about
    levels: tuple[str, ...]  # as the statement claims them; empty: it says that verification failed
    envelope: Digest  # of the blob: a DSSE envelope
    vkey: str  # whose signature it carries, as people exchange keys: name, id and public key
    agent_lines: int  # lines that sessions of agents added, as the notes say them
    commits: int  # commits that the notes say lines of


class MergeUnattested(Event):
    """The repository took no note, for good: the landing stands, and nothing beside it says where it came from."""

    terminal: ClassVar[bool] = True
    repository: Repository
    commit: Commit
    landed: int  # log index of the Landed that it is about
    reason: str


def attestation_stream(commit: Commit) -> StreamId:
    return StreamId(f"attestation/{commit}")
