"""Having a process kill, itself or another, at a step of its work that is named."""

from dataclasses import dataclass
from pathlib import Path

from tests.support.deployment import Deployment
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Fuse:
    """A file that processes started by `tests.faults.launch` look at: as long as it is there, it names the step."""

    path: Path

    def launcher(self, bug: str = "none") -> tuple[str, ...]:
        """What starts a process that looks at it."""
        return "tests.faults.launch", str(self.path), bug

    async def strike(self, point: str, victim: int) -> None:
        """Return when one that came by there has killed the process of this id, at once."""
        self.path.write_text(f"{point} {victim}")
        await eventually(lambda: not self.path.exists(), what=f"{point} to be reached", every=0.005)

    async def burn(self, point: str, deployment: Deployment) -> None:
        """Return when one has killed itself there and been started again."""
        supervisors = [deployment.ingest, *deployment.workers]
        exits = [one.exits.total() for one in supervisors]
        self.path.write_text(point)
        await eventually(lambda: not self.path.exists(), what=f"{point} to be reached", every=0.005)
        pairs = list(zip(supervisors, exits, strict=True))
        died, before = await eventually(lambda: next((pair for pair in pairs if pair[0].exits.total() > pair[1]), None))
        await died.restarted(before)
