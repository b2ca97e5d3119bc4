"""The two repositories that these tests serve."""

from rbac.model import Served

SERVED = (
    Served(repository="shop", branch="main", environments=("production",)),
    Served(repository="lib", branch="trunk"),
)
