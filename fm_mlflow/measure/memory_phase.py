"""A phase of a process's life and the memory that it held."""

from __future__ import annotations

from dataclasses import dataclass

from fm_mlflow.measure.measurement import MIB

KERNEL, SAMPLER = "kernel", "sampler"


@dataclass(frozen=True)
class PhaseMemory:
    """What a phase held.

    Attributes:
        name: The phase.
        start_seconds: When it began, after the monitor did.
        seconds: How long it took.
        start_rss_mib: Resident memory at its start, in MiB.
        end_rss_mib: Resident memory at its end, in MiB.
        end_anonymous_mib: Of it, what no file backs; None where the system does not say.
        peak_rss_mib: The highest resident memory within it, in MiB.
        peak_source: `kernel` if the kernel's mark is this phase's own, else `sampler`.
    """

    name: str
    start_seconds: float
    seconds: float
    start_rss_mib: float
    end_rss_mib: float
    end_anonymous_mib: float | None
    peak_rss_mib: float
    peak_source: str


@dataclass
class OpenPhase:
    """A phase under way; sizes in bytes.

    The kernel's mark is the phase's own if it was low at the start (`mark_is_own`), or as soon as
    it is above where it was then.
    """

    name: str
    started: float
    start_resident: int
    start_mark: int
    mark_is_own: bool
    sampled_peak: int
    kernel_peak: int = 0

    def note_mark(self, mark: int) -> None:
        """Take the kernel's mark, in bytes, for what it says of this phase."""
        if self.mark_is_own or mark > self.start_mark:
            self.kernel_peak = max(self.kernel_peak, mark)

    @property
    def peak(self) -> int:
        """The highest resident memory so far, in bytes."""
        return max(self.kernel_peak, self.sampled_peak)

    def end(self, now: float, resident: int, anonymous: int | None) -> PhaseMemory:
        """Return what the phase held: `now` in the monitor's seconds, memory in bytes."""
        return PhaseMemory(
            name=self.name,
            start_seconds=self.started,
            seconds=now - self.started,
            start_rss_mib=self.start_resident / MIB,
            end_rss_mib=resident / MIB,
            end_anonymous_mib=None if anonymous is None else anonymous / MIB,
            peak_rss_mib=self.peak / MIB,
            peak_source=KERNEL if self.kernel_peak else SAMPLER,
        )
