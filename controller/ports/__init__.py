"""What the loop needs of the world: Protocols, and the plain values they exchange. Nothing else.

Steps see readers and a `Gate`. Whatever changes the world is a `Verb` and goes through the gate, which alone knows the
`Hands` that act.
"""

from __future__ import annotations

from controller.ports.agents import (
    Allowed,
    Badge,
    Belt,
    Committed,
    Denied,
    Desk,
    Model,
    ModelReply,
    ModelRequest,
    ToolDefinition,
    ToolResult,
    Tools,
    ToolSpec,
    Visit,
    Visitors,
    Workspaces,
)
from controller.ports.everything import (
    Ports,
    RepositoryConfig,
    ServiceConfig,
)
from controller.ports.forge import (
    Candidate,
    Change,
    Conflict,
    Forge,
)
from controller.ports.gate import (
    Blocked,
    Done,
    Failed,
    Gate,
    Hands,
    Limits,
    Outcome,
    Pending,
    Unknown,
)
from controller.ports.judging import (
    Contradicted,
    Court,
    LookRequest,
    Reader,
    SealedCounts,
    Seen,
)
from controller.ports.provenance import (
    Attestor,
)
from controller.ports.record import (
    Blobs,
    Head,
    Held,
    Lease,
    Log,
    Receipt,
    Rejected,
    Seals,
)
from controller.ports.time import (
    Clock,
)
from controller.ports.world import (
    Baseline,
    Ci,
    CiRun,
    Facts,
    Platform,
    PlatformStatus,
    Policy,
    Telemetry,
    TestResult,
)

__all__ = [
    "Allowed",
    "Attestor",
    "Badge",
    "Baseline",
    "Belt",
    "Blobs",
    "Blocked",
    "Candidate",
    "Change",
    "Ci",
    "CiRun",
    "Clock",
    "Committed",
    "Conflict",
    "Contradicted",
    "Court",
    "Denied",
    "Desk",
    "Done",
    "Facts",
    "Failed",
    "Forge",
    "Gate",
    "Hands",
    "Head",
    "Held",
    "Lease",
    "Limits",
    "Log",
    "LookRequest",
    "Model",
    "ModelReply",
    "ModelRequest",
    "Outcome",
    "Pending",
    "Platform",
    "PlatformStatus",
    "Policy",
    "Ports",
    "Reader",
    "Receipt",
    "Rejected",
    "RepositoryConfig",
    "SealedCounts",
    "Seals",
    "Seen",
    "ServiceConfig",
    "Telemetry",
    "TestResult",
    "ToolDefinition",
    "ToolResult",
    "ToolSpec",
    "Tools",
    "Unknown",
    "Visit",
    "Visitors",
    "Workspaces",
]
